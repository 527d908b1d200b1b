// Results as Markdown, the same on the terminal and in docs/capacity.md.

export interface Table {
  readonly title: string
  /** The first is the row's name; the others are numbers. */
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
  /** What must be known to read it, and what was left out with its reason. */
  readonly notes: readonly string[]
}

export const renderTable = ({ title, columns, rows, notes }: Table): string =>
  [
    `**${title}**`,
    '',
    `| ${columns.join(' | ')} |`,
    `|---|${columns
      .slice(1)
      .map(() => '--:|')
      .join('')}`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ].join('\n')

/** Three digits that count, thousands apart: 12,300. */
export const round = (value: number): string => {
  if (!Number.isFinite(value)) return '?'
  if (value === 0) return '0'
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))
  const factor = 10 ** (2 - Math.floor(Math.log10(Math.abs(value))))
  const rounded = Math.round(value * factor) / factor
  return rounded.toLocaleString('en-US', { maximumFractionDigits: Math.min(digits, 3) })
}

export const ratio = (value: number): string => value.toFixed(2)
export const percent = (part: number): string => `${round(part * 100)} %`
export const milliseconds = (seconds: number): string => `${round(seconds * 1000)} ms`
export const micros = (seconds: number): string => round(seconds * 1e6)

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']

export const bytes = (count: number): string => {
  let [value, unit] = [count, 0]
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${round(value)} ${UNITS[unit]}`
}

export const duration = (seconds: number): string => {
  if (seconds < 120) return `${round(seconds)} s`
  return seconds < 7200 ? `${round(seconds / 60)} min` : `${round(seconds / 3600)} h`
}
