// JSON as a verifier must read it. JSON.parse keeps the last of two equal names and other parsers the first, so two
// readers of one token could see different users (RFC 7519 §4, RFC 8259 §4): duplicates are refused.

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** True when some object in this valid JSON text names a member twice, also in two spellings (`\u0073ub`). */
export const hasDuplicateNames = (text: string): boolean => {
  const open: (Set<string> | undefined)[] = []
  let at = 0
  let expectName = false
  while (at < text.length) {
    const char = text[at]
    if (char === '"') {
      let end = at + 1
      while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1
      const names = open[open.length - 1]
      if (expectName && names) {
        const name = JSON.parse(text.slice(at, end + 1)) as string
        if (names.has(name)) return true
        names.add(name)
        expectName = false
      }
      at = end + 1
      continue
    }
    if (char === '{') {
      open.push(new Set())
      expectName = true
    } else if (char === '[') {
      open.push(undefined)
      expectName = false
    } else if (char === '}' || char === ']') {
      open.pop()
      expectName = false
    } else if (char === ',') expectName = open[open.length - 1] !== undefined
    at++
  }
  return false
}

/** The object in these bytes, or undefined: bad UTF-8, a BOM, not JSON, not an object, or a name twice. */
export const parseStrictObject = (
  bytes: Uint8Array,
): Readonly<Record<string, unknown>> | undefined => {
  let value: unknown
  let text: string
  try {
    text = decoder.decode(bytes)
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  return hasDuplicateNames(text) ? undefined : (value as Readonly<Record<string, unknown>>)
}
