import { hostname } from 'node:os'
import { nameSchema } from '../protocol/index.js'

/** This machine's name in the form that workers' names have. */
export function machineName(): string {
  const name = (hostname().split('.')[0] ?? '').replace(/[^a-z0-9_.@-]/gi, '-').replace(/^[^a-z0-9]+/i, '')
  return nameSchema.safeParse(name).success ? name : 'worker'
}
