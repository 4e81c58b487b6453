import { isIPv6 } from 'node:net'
import { isLoopbackHost } from '../protocol/index.js'

/** Groups of an IPv6 address that name the network of one customer: the other half is theirs to choose. */
const NETWORK_GROUPS = 4

/** What counts as one place to come from: an IPv4 address, or the /64 network of an IPv6 address. Anything else as it is. */
export function originOf(address: string): string {
  const text = plainAddress(address)
  if (!isIPv6(text)) return text
  const [head = '', tail] = text.toLowerCase().split('::')
  const front = groupsOf(head)
  const back = tail === undefined ? [] : groupsOf(tail)
  const all = [...front, ...Array.from({ length: Math.max(0, 8 - front.length - back.length) }, () => '0'), ...back]
  return `${all.slice(0, NETWORK_GROUPS).join(':')}::/64`
}

/** Whether an address is this machine's own, a proxy's in front for one: such an origin has no share of its own. */
export function isOwnAddress(address: string): boolean {
  return isLoopbackHost(plainAddress(address))
}

/** An address without what Node puts around it: an IPv4 one within an IPv6 one, or an interface. */
export function plainAddress(address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address.replace(/%.*$/, '')
}

function groupsOf(text: string): string[] {
  if (text === '') return []
  // An IPv4 address at the end stands for two groups, which are past the network.
  return text.split(':').flatMap((group) => (group.includes('.') ? ['0', '0'] : group.replace(/^0+(?=.)/, '')))
}
