import { rememberNodes } from '../home/index.js'
import type { MemberNode } from '../protocol/index.js'
import type { Logger } from './log.js'

export interface RememberOptions {
  home: string
  /** The mesh's address. */
  mesh: string
  log: Pick<Logger, 'warn'>
}

/** Keeps in the home where members are, as they move. What cannot be written is tried again with the next that changes. */
export class Remember {
  readonly #options: RememberOptions
  #last = ''

  constructor(options: RememberOptions) {
    this.#options = options
  }

  /** Never throws. */
  keep(nodes: readonly MemberNode[]): void {
    const text = JSON.stringify(nodes)
    if (nodes.length === 0 || text === this.#last) return
    const { home, mesh, log } = this.#options
    try {
      rememberNodes(home, mesh, nodes)
      this.#last = text
    } catch (err) {
      log.warn({ err }, 'where the members are could not be kept')
    }
  }
}
