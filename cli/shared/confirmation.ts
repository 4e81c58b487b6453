import { print, yellow } from './output.js'

/** Says which gateways refuse by now what was revoked, and which may not yet. */
export function printConfirmation({ confirmedBy, pending }: { confirmedBy: string[]; pending: string[] }): void {
  if (confirmedBy.length > 0) print(`Refused by now by ${listed(confirmedBy)}`)
  if (pending.length === 0) return
  const [have, they] = pending.length === 1 ? ['has', 'it'] : ['have', 'they']
  print(yellow(`${listed(pending)} ${have} not confirmed: ${they} may accept it until ${they} can be reached again`))
}

/** `gateway g1` or `gateways g1, g2`. */
function listed(names: string[]): string {
  return `gateway${names.length === 1 ? '' : 's'} ${names.join(', ')}`
}
