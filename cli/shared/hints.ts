import { resolve } from 'node:path'
import { homePath } from '../../lib/home/index.js'

/** A command for people to type, which means the home that is spoken of also where that is not the usual one. */
export function command(text: string, home: string): string {
  return `\`infermesh ${text}${withHome(home)}\``
}

/** ` --home X` where a command without it would mean another home. */
function withHome(home: string): string {
  const path = resolve(home)
  if (path === resolve(homePath())) return ''
  return ` --home ${/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`}`
}
