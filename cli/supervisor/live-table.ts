import { dim, green, onTerminal, print, red, table, yellow } from '../shared/output.js'
import type { Child, ChildState } from './child.js'

const PAINTS: Record<ChildState, (text: string) => string> = {
  waiting: dim,
  starting: yellow,
  ready: green,
  restarting: yellow,
  failed: red,
  stopped: dim,
}

/** Workers and how far each is: drawn over itself on a terminal, nowhere else. */
export class LiveTable {
  readonly #children: Child[]
  readonly #hidden: boolean
  #lines = 0

  constructor(children: Child[], hidden: boolean) {
    this.#children = children
    this.#hidden = hidden || !onTerminal()
  }

  draw(): void {
    if (this.#hidden) return
    const rows = this.#children.map(({ role, name, state, pid, status, reason }) => [
      role,
      name,
      PAINTS[state](state),
      pid === undefined ? '-' : String(pid),
      status?.addresses.http ?? status?.addresses.metrics ?? (state === 'ready' ? '-' : (reason?.message ?? '-')),
    ])
    const lines = table(['ROLE', 'NAME', 'STATE', 'PID', 'ADDRESS'], rows)
    if (this.#lines > 0) process.stdout.write(`\x1b[${this.#lines}A\x1b[J`)
    for (const line of lines) print(line)
    this.#lines = lines.length
  }

  /** Leaves the table as it is and puts what follows below it. */
  end(): void {
    if (this.#lines > 0) print()
    this.#lines = 0
  }
}
