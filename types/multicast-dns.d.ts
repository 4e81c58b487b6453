declare module 'multicast-dns' {
  import type { Socket } from 'node:dgram'
  import type { EventEmitter } from 'node:events'

  export interface Question {
    name: string
    type: string
  }

  export interface Answer {
    name: string
    type: string
    ttl?: number
    flush?: boolean
    data: unknown
  }

  export interface Packet {
    questions?: Question[]
    answers?: Answer[]
    additionals?: Answer[]
  }

  export interface Options {
    socket?: Socket
    /** 0: none is bound. */
    port?: number
    multicast?: boolean
    /** Address to bind to: multicast comes to no socket that is bound to one of the machine's own. */
    bind?: string
    /** Own address of the interface that is sent and listened on. */
    interface?: string
  }

  export interface Mdns extends EventEmitter {
    query(questions: Question[], callback?: (err?: Error | null) => void): void
    respond(packet: Packet, callback?: (err?: Error | null) => void): void
    destroy(callback?: () => void): void
  }

  export default function multicastDns(options?: Options): Mdns
}
