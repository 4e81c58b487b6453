import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { isOwnAddress, originOf } from '../index.js'

/** How many connections a server takes. */
export interface ConnectionBounds {
  most: number
  /** From one origin; 0: it may have all of them. */
  perAddress: number
}

interface Connection {
  readonly socket: Socket
  /** The other end's address and port: under TLS a request's socket is another object than the one that was accepted. */
  readonly end: string
  readonly origin: string
  readonly share: Group
  /** Requests that are not answered yet. */
  underWay: number
}

/** Connections of one origin, or of all; those without a request under way from the one that has been so for longest. */
class Group {
  readonly all = new Set<Connection>()
  /** Those that never asked for anything. */
  readonly silent = new Set<Connection>()
  readonly answered = new Set<Connection>()

  /** The one that gives way to another; undefined where every one is at work. */
  get idlest(): Connection | undefined {
    for (const idle of [this.silent, this.answered]) for (const connection of idle) return connection
    return undefined
  }
}

/**
 * Bounds a server's connections, in all and from one origin. Where one more would be too many, one with nothing under way
 * is closed for it: the oldest of those that never sent a request, else the one that has waited longest for another. Only
 * where every one is at work the new one is closed. So connections that are merely open keep nobody out.
 */
export class Connections {
  readonly #bounds: ConnectionBounds
  readonly #hasShare: (address: string) => boolean
  readonly #whole = new Group()
  readonly #shares = new Map<string, Group>()
  readonly #ends = new Map<string, Connection>()

  /** @param hasShare whether an address is held to a share: not loopback, where a proxy may stand in front */
  constructor(server: Server, bounds: ConnectionBounds, hasShare = (address: string) => !isOwnAddress(address)) {
    this.#bounds = bounds
    this.#hasShare = hasShare
    server.on('connection', (socket: Socket) => {
      // The server is still setting it up in this tick.
      if (!this.#take(socket)) process.nextTick(() => socket.destroy())
    })
    server.prependListener('request', ({ socket }, response) => {
      const connection = this.#ends.get(endOf(socket))
      if (connection === undefined) return
      this.#begin(connection)
      response.once('close', () => this.#finish(connection))
    })
  }

  get size(): number {
    return this.#whole.all.size
  }

  /** False where there is no room for it. */
  #take(socket: Socket): boolean {
    const { remoteAddress } = socket
    // It was reset before it was accepted.
    if (remoteAddress === undefined) return false
    const { most, perAddress } = this.#bounds
    const origin = originOf(remoteAddress)
    const isHeld = perAddress > 0 && this.#hasShare(remoteAddress)
    if (isHeld && !this.#makeRoom(this.#shares.get(origin), perAddress)) return false
    if (!this.#makeRoom(this.#whole, most)) return false
    const share = this.#shares.get(origin) ?? new Group()
    this.#shares.set(origin, share)
    const connection: Connection = { socket, end: endOf(socket), origin, share, underWay: 0 }
    this.#ends.set(connection.end, connection)
    for (const group of [this.#whole, share]) {
      group.all.add(connection)
      group.silent.add(connection)
    }
    socket.once('close', () => this.#forget(connection))
    return true
  }

  #makeRoom(group: Group | undefined, most: number): boolean {
    if (group === undefined || group.all.size < most) return true
    const { idlest } = group
    if (idlest === undefined) return false
    // Its `close` comes in a later tick, and until then it would count and be chosen again.
    this.#forget(idlest)
    idlest.socket.destroy()
    return true
  }

  #begin(connection: Connection): void {
    connection.underWay++
    for (const group of [this.#whole, connection.share]) {
      group.silent.delete(connection)
      group.answered.delete(connection)
    }
  }

  #finish(connection: Connection): void {
    connection.underWay--
    if (connection.underWay > 0 || !this.#whole.all.has(connection)) return
    for (const group of [this.#whole, connection.share]) group.answered.add(connection)
  }

  #forget(connection: Connection): void {
    const { end, origin, share } = connection
    for (const { all, silent, answered } of [this.#whole, share]) {
      all.delete(connection)
      silent.delete(connection)
      answered.delete(connection)
    }
    if (this.#ends.get(end) === connection) this.#ends.delete(end)
    if (share.all.size === 0 && this.#shares.get(origin) === share) this.#shares.delete(origin)
  }
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
