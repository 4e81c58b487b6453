/**
 * Declarations for the Holepunch packages that ship none. Only what infermesh uses; test/types.test.ts checks that
 * each member exists in the installed version.
 */

declare module 'z32' {
  const z32: { encode(bytes: Uint8Array): string; decode(text: string): Uint8Array }
  export default z32
}

declare module 'protomux' {
  import type { Duplex } from 'streamx'

  interface Encoding<T> {
    preencode(state: unknown, value: T): void
    encode(state: unknown, value: T): void
    decode(state: unknown): T
  }

  export interface Message<T> {
    /** False once more than the high-water mark is buffered: go on at `ondrain`. */
    send(value: T): boolean
  }

  export interface Channel {
    readonly id: Buffer | null
    readonly opened: boolean
    readonly closed: boolean
    readonly drained: boolean
    open(handshake?: Uint8Array): void
    close(): void
    fullyOpened(): Promise<boolean>
    addMessage<T>(options: { encoding: Encoding<T>; onmessage?: (value: T) => void }): Message<T>
    cork(): void
    uncork(): void
  }

  export default class Protomux {
    static from(stream: Duplex): Protomux
    readonly stream: Duplex
    cork(): void
    uncork(): void
    /** Whether a channel is open, or being opened, at this side. */
    opened(channel: { protocol: string; id?: Uint8Array | null }): boolean
    destroy(err?: Error): void
    /** Null when the stream is destroyed or a channel with this protocol and id is open. */
    createChannel(options: {
      protocol: string
      id?: Uint8Array | null
      handshake?: Encoding<Uint8Array>
      onopen?: (handshake: Uint8Array) => void
      onclose?: (isRemote: boolean) => void
      ondestroy?: () => void
      ondrain?: () => void
    }): Channel | null
    /** The id is null where the other side gave none. */
    pair(
      options: { protocol: string; id?: Uint8Array | null },
      notify: (id: Buffer | null) => void | Promise<void>,
    ): void
    unpair(options: { protocol: string; id?: Uint8Array | null }): void
    /** Private, as all that follows: called where a frame cannot be handled. See lib/link/guard.ts. */
    _safeDestroy(err: unknown): void
    _safeDestroyBound(err: unknown): void
    _warn(err: unknown): void
    /** What is held back to be sent as one frame; null while nothing is. */
    _batch: unknown[] | null
    _batchState: { buffer: null; start: number; end: number } | null
    _sendBatch(batch: unknown[], state: { buffer: null; start: number; end: number } | null): void
  }
}

declare module 'protomux-rpc' {
  import { EventEmitter } from 'node:events'
  import type Protomux from 'protomux'
  import type { Duplex } from 'streamx'

  export default class ProtomuxRPC extends EventEmitter {
    constructor(stream: Duplex, options?: { id?: Uint8Array; protocol?: string })
    readonly closed: boolean
    readonly opened: boolean
    readonly mux: Protomux
    readonly stream: Duplex & { remotePublicKey: Buffer; publicKey: Buffer; isInitiator: boolean }
    /** A value is null where the caller sent none. */
    respond(method: string, handler: (value: Buffer | null) => Promise<Buffer>): this
    request(method: string, value: Uint8Array, options?: { timeout?: number }): Promise<Buffer>
    event(method: string, value: Uint8Array): void
    destroy(err?: Error): void
    /** Private: the message that carries requests. See lib/link/guard.ts. */
    readonly _request: { autoBatch: boolean }
  }
}

declare module '@hyperswarm/rpc' {
  import { EventEmitter } from 'node:events'
  import type DHT from 'hyperdht'
  import type { KeyPair, NoiseStream } from 'hyperdht'
  import type ProtomuxRPC from 'protomux-rpc'

  export interface Client extends EventEmitter {
    /** There from the beginning, except where a capability is asked for. */
    readonly rpc: ProtomuxRPC
    readonly closed: boolean
    readonly stream: NoiseStream
    request(method: string, value: Uint8Array, options?: { timeout?: number }): Promise<Buffer>
    destroy(err?: Error): void
  }

  export default class RPC {
    constructor(options?: { dht?: DHT; keyPair?: KeyPair })
    /** One long-lived client. Not `request(publicKey, …)`, whose pool ends calls longer than ten seconds. */
    connect(publicKey: Uint8Array, options?: { keyPair?: KeyPair; relayAddresses?: unknown[] }): Client
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperdht' {
  import { EventEmitter } from 'node:events'
  import type { Duplex, Readable } from 'streamx'

  export interface KeyPair {
    publicKey: Buffer
    secretKey: Buffer
  }
  export interface NodeAddress {
    host: string
    port: number
  }
  export interface NoiseStream extends Duplex {
    readonly isInitiator: boolean
    /** False until the handshake is done. */
    readonly connected: boolean
    readonly publicKey: Buffer
    readonly remotePublicKey: Buffer
    readonly rawBytesRead: number
    readonly rawBytesWritten: number
    readonly opened: Promise<boolean>
    readonly rawStream: { rtt: number; remoteHost: string; remotePort: number }
    readonly destroying: boolean
    setKeepAlive(ms: number): void
  }
  export interface Server extends EventEmitter {
    readonly publicKey: Buffer
    listen(keyPair?: KeyPair): Promise<void>
    close(): Promise<void>
  }
  export interface LookupResult {
    peers: { publicKey: Buffer; relayAddresses: NodeAddress[] }[]
  }
  export interface ConnectOptions {
    keyPair?: KeyPair
    /** Nodes through which the peer may be called, or its own. */
    relayAddresses?: readonly NodeAddress[]
  }
  export interface QueryRequest {
    target: Uint8Array
    command: number
    value: Buffer | null
  }
  export interface QueryOptions {
    /** Nodes to begin at. */
    nodes?: readonly NodeAddress[]
    closestNodes?: readonly NodeAddress[]
    /** Asks the nodes given, and no others. */
    onlyClosestNodes?: boolean
    /** Of a request without an answer, one second each. */
    retries?: number
    /** Of an announcement: takes away first what was announced before. */
    clear?: boolean
  }
  /** What another node asks of this one. */
  export interface DHTRequest {
    command: number
    target: Buffer | null
    value: Buffer | null
    reply(value: null, options: { token: boolean; closerNodes: boolean }): void
  }
  export interface DHTOptions {
    /** How much of each kind this node keeps for others, doubled as it ages. */
    maxSize?: number
    bootstrap?: (NodeAddress | string)[]
    host?: string
    /** Or the first to try and the one after the last. */
    port?: number | [number, number]
    ephemeral?: boolean
    firewalled?: boolean
    keyPair?: KeyPair
  }
  export default class DHT extends EventEmitter {
    constructor(options?: DHTOptions)
    static bootstrapper(port: number, host: string, options?: DHTOptions): DHT
    static keyPair(seed?: Uint8Array): KeyPair
    static hash(data: Uint8Array): Buffer
    readonly defaultKeyPair: KeyPair
    readonly bootstrapped: boolean
    readonly destroyed: boolean
    readonly host: string | null
    readonly port: number
    /** Null until the node is bound. */
    address(): (NodeAddress & { family: number }) | null
    fullyBootstrapped(): Promise<void>
    connect(publicKey: Uint8Array, options?: ConnectOptions): NoiseStream
    createServer(onconnection: (conn: NoiseStream) => void): Server
    lookup(topic: Uint8Array, options?: QueryOptions): Readable<LookupResult> & AsyncIterable<LookupResult>
    announce(
      topic: Uint8Array,
      keyPair: KeyPair,
      relayAddresses: NodeAddress[],
      options?: QueryOptions,
    ): { finished(): Promise<void> }
    unannounce(topic: Uint8Array, keyPair: KeyPair, options?: QueryOptions): Promise<void>
    query(request: QueryRequest, options?: QueryOptions): Readable
    /** Called for each request. @returns false: it is answered as one that is not known */
    onrequest(request: DHTRequest): boolean
    /** Nodes that every query asks while few others are known. Read at each. */
    bootstrapNodes: NodeAddress[]
    readonly nodes: { toArray(): NodeAddress[] }
    /** Private: takes a node out of the routing table. */
    _removeNode(node: NodeAddress): void
    /** Private: which nodes may be in the routing table, and be asked because another has named them. */
    _filterNode: ((node: NodeAddress) => boolean) | null
    /** Private: what this node takes for its address. */
    readonly _nat: { add(host: string, port: number): void }
    findPeer(publicKey: Uint8Array): AsyncIterable<unknown>
    ping(address: NodeAddress): Promise<unknown>
    toArray(): NodeAddress[]
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperdht/testnet.js' {
  import type DHT from 'hyperdht'
  import type { NodeAddress } from 'hyperdht'

  export interface Testnet {
    readonly bootstrap: NodeAddress[]
    readonly nodes: DHT[]
    destroy(): Promise<void>
  }
  export default function createTestnet(
    size?: number,
    options?: { host?: string; port?: number; teardown?: (fn: () => unknown, options?: { order?: number }) => void },
  ): Promise<Testnet>
}

declare module 'hyperswarm' {
  import { EventEmitter } from 'node:events'
  import type DHT from 'hyperdht'
  import type { KeyPair, NoiseStream } from 'hyperdht'

  export interface PeerInfo {
    readonly publicKey: Buffer
    readonly banned: boolean
    /** Whether it is to be dialled, by `joinPeer`. */
    readonly explicit: boolean
    ban(banned: boolean): void
  }
  export interface Discovery {
    refresh(options?: { client?: boolean; server?: boolean }): Promise<void>
    flushed(): Promise<boolean>
    destroy(): Promise<void>
  }
  export default class Hyperswarm extends EventEmitter {
    constructor(options: {
      keyPair?: KeyPair
      dht?: DHT
      maxPeers?: number
      maxParallel?: number
      backoffs?: number[]
      jitter?: number
      /** True refuses. The payload is null for a dial of one's own. */
      firewall?: (publicKey: Buffer, payload: object | null) => boolean
    })
    readonly dht: DHT
    readonly keyPair: KeyPair
    readonly connections: Set<NoiseStream>
    /** Private: what keeps this node's key announced; null until it listens. */
    readonly server: {
      readonly _announcer: {
        refresh(): void
        readonly _sleeper: { resume(): void }
        /** The announcing under way, which never fails; null between two. */
        readonly _updating: Promise<void> | null
      } | null
    }
    readonly peers: Map<string, PeerInfo>
    /** Every connection, those still being dialled included. Private to Hyperswarm: see lib/worker-base/net. */
    readonly _allConnections: { get(publicKey: Uint8Array): NoiseStream | undefined; delete(conn: NoiseStream): void }
    /** Private: takes a connection that a peer has made. */
    _handleServerConnection(conn: NoiseStream): void
    on(event: 'connection', listener: (conn: NoiseStream, info: PeerInfo) => void): this
    on(event: 'update', listener: () => void): this
    join(topic: Uint8Array, options?: { client?: boolean; server?: boolean }): Discovery
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
    listen(): Promise<void>
    flush(): Promise<boolean>
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hypercore' {
  import { EventEmitter } from 'node:events'
  import type { Duplex } from 'streamx'

  /** Changes of what is stored of a core, made all at once. */
  interface CoreChanges {
    /** Nodes with `start <= index < end`. */
    deleteTreeNodeRange(start: number, end: number): void
    flush(): Promise<boolean>
  }
  export default class Hypercore extends EventEmitter {
    readonly key: Buffer
    readonly discoveryKey: Buffer
    readonly length: number
    /** How often its writer has taken back what it had written: of two that were signed for one key, the higher counts. */
    readonly fork: number
    /** Blocks from the first on that are here, without a gap. */
    readonly contiguousLength: number
    readonly writable: boolean
    readonly opened: boolean
    readonly closed: boolean
    /** False: what a peer appends is not asked for until `update` is called. Not among the library's documented settings. */
    readonly replicator: { eagerUpgrade: boolean }
    /** Private to the library: what is stored of the core. */
    readonly core: { replicator: { destroyed: boolean }; state: { storage: { write(): CoreChanges } } }
    /** `remoteLength` counts once `remoteSynced` is true. */
    readonly peers: { remotePublicKey: Buffer; remoteLength: number; remoteSynced: boolean }[]
    ready(): Promise<void>
    update(options?: { wait?: boolean }): Promise<boolean>
    get(index: number, options?: { timeout?: number; wait?: boolean }): Promise<Buffer>
    has(start: number, end?: number): Promise<boolean>
    clear(start: number, end?: number): Promise<void>
    /** Writes the tables that hold this core anew, without what was deleted. */
    compact(): Promise<unknown>
    download(range?: { start?: number; end?: number; linear?: boolean }): { done(): Promise<void>; destroy(): void }
    /** Call the returned function once there are no more peers to find: until then `update` waits. */
    findingPeers(): () => void
    append(blocks: Uint8Array | Uint8Array[]): Promise<{ length: number }>
    /** Keeps so many blocks, under a higher fork, which replicas follow. */
    truncate(newLength: number, options?: { fork?: number }): Promise<void>
    replicate(stream: Duplex): Duplex
    close(): Promise<void>
  }
}

declare module 'hypercore/lib/session-state.js' {
  /** Private to the library: a test slows down what it writes. */
  export default class SessionState {
    core: { replicator: { destroyed: boolean } }
    flush(): Promise<boolean>
  }
}

declare module 'hypercore-storage' {
  /** Cores on disk, in one RocksDB. */
  export default class HypercoreStorage {
    /** @param place its folder, or what does for a RocksDB; @param options.writeBufferSize bytes */
    constructor(place: string | object, options?: { writeBufferSize?: number; treeCache?: { maxSize: number } })
    /** Private: the RocksDB. `flush` writes what it holds in memory to a table, and syncs that. */
    readonly db: { flush(): Promise<void> }
  }
}

declare module 'device-file' {
  /** A file that holds its own inode, so that a copy of it is known for one. */
  export default class DeviceFile {
    constructor(path: string, options?: { lock?: boolean })
    /** Whether the file is where it was made, or is not there. */
    static validate(path: string, data: object): Promise<boolean>
    ready(): Promise<void>
    close(): Promise<void>
  }
}

declare module 'corestore' {
  import { EventEmitter } from 'node:events'
  import type Hypercore from 'hypercore'
  import type HypercoreStorage from 'hypercore-storage'
  import type Rache from 'rache'
  import type { Duplex } from 'streamx'

  export interface CorestoreOptions {
    primaryKey?: Uint8Array
    unsafe?: boolean
    globalCache?: Rache
  }

  /** What all sessions of one core share. */
  export interface Core {
    readonly replicator: Replicator
    readonly closed: boolean
    /** Private to hypercore: what is known of the core's length has changed since it was stored last. */
    hintsChanged: boolean
    /** Private to hypercore. */
    flushHints(): Promise<void>
    /** Private to hypercore: checks what a peer sent, and stores it. */
    verify(proof: unknown, from: unknown): Promise<boolean>
  }

  /** Private to hypercore. */
  export interface Replicator {
    readonly destroyed: boolean
    _resolveBlocksLocally(): Promise<void>
  }

  export default class Corestore extends EventEmitter {
    constructor(storage: string | HypercoreStorage, options?: CorestoreOptions)
    /** Calls back with each core before it opens. */
    watch(callback: (core: Core) => void): void
    ready(): Promise<void>
    get(options: {
      name?: string
      key?: Uint8Array
      encryption?: { key: Uint8Array }
      compat?: boolean
      /** Holds the tree's blocks of this core; absent: the store's own. Counts where the core is not open yet. */
      globalCache?: Rache
    }): Hypercore
    replicate(stream: Duplex): void
    replicate(isInitiator: boolean): Duplex
    close(): Promise<void>
  }
}

declare module 'rache' {
  /** What the trees of one store keep in memory, counted in blocks. */
  export default class Rache {
    constructor(options?: { maxSize?: number })
    readonly globalSize: number
  }
}

declare module 'hyperbee' {
  import type Hypercore from 'hypercore'

  export interface Entry {
    seq: number
    key: string
    value: Buffer
  }
  export interface HistoryEntry extends Entry {
    type: 'put' | 'del'
  }
  interface Range {
    gt?: string
    gte?: string
    lt?: string
    lte?: string
    limit?: number
    reverse?: boolean
  }
  export interface Batch {
    /** Keeps other batches and writes waiting until `flush` or `close`. Without it only the first write does. */
    lock(): Promise<void>
    put(key: string, value: Uint8Array): Promise<void>
    del(key: string): Promise<void>
    get(key: string): Promise<Entry | null>
    /** The entry in one block; a value of null: deleted. */
    getBySeq(seq: number): Promise<{ key: string; value: Buffer | null }>
    flush(): Promise<void>
    close(): Promise<void>
  }
  export default class Hyperbee {
    constructor(core: Hypercore, options: { keyEncoding: 'utf-8'; valueEncoding: 'binary' })
    readonly core: Hypercore
    readonly version: number
    ready(): Promise<void>
    get(key: string): Promise<Entry | null>
    put(key: string, value: Uint8Array, options?: { cas?: (prev: Entry, next: Entry) => boolean }): Promise<void>
    del(key: string): Promise<void>
    /** `wait` false: a block that is not here is an error. */
    batch(options?: { wait?: boolean }): Batch
    createReadStream(range?: Range): AsyncIterable<Entry>
    /** Every change with `gte <= seq < lt`, oldest first; seq starts at 1. */
    createHistoryStream(range?: {
      gt?: number
      gte?: number
      lt?: number
      live?: boolean
      limit?: number
    }): AsyncIterable<HistoryEntry>
    /** Clears blocks with `gte <= seq < lt` that this version of the bee does not need, and those that they replaced. */
    clearUnlinked(options: { gte: number; lt: number }): Promise<number>
    /** The bee as it was at a version. `reuseSession`: of this one's core, with nothing to close. */
    checkout(version: number, options?: { reuseSession?: boolean }): Hyperbee
    close(): Promise<void>
  }
}

declare module 'brittle' {
  interface Assertions {
    plan(count: number): void
    pass(message?: string): void
    fail(message?: string): void
    comment(...message: unknown[]): void
    ok(value: unknown, message?: string): void
    absent(value: unknown, message?: string): void
    is(actual: unknown, expected: unknown, message?: string): void
    not(actual: unknown, expected: unknown, message?: string): void
    alike(actual: unknown, expected: unknown, message?: string): void
    unlike(actual: unknown, expected: unknown, message?: string): void
    execution(fn: Promise<unknown> | (() => unknown), message?: string): Promise<void>
    exception(fn: Promise<unknown> | (() => unknown), expected?: RegExp | Error, message?: string): Promise<void>
    timeout(ms: number): void
    teardown(fn: () => unknown, options?: { order?: number }): void
    tmp(): Promise<string>
    test(name: string, fn: (t: Test) => unknown): Promise<unknown>
    end(): void
  }
  export type Test = Assertions
  interface Runner {
    (name: string, fn: (t: Test) => unknown): void
    (name: string, options: { timeout?: number; skip?: boolean; solo?: boolean }, fn: (t: Test) => unknown): void
    skip(name: string, fn?: (t: Test) => unknown): void
    solo(name: string, fn: (t: Test) => unknown): void
    hook(name: string, fn: (t: Test) => unknown): void
  }
  const test: Runner
  export default test
}

declare module 'sodium-universal' {
  const sodium: {
    readonly crypto_pwhash_STRBYTES: number
    readonly crypto_pwhash_OPSLIMIT_INTERACTIVE: number
    readonly crypto_pwhash_MEMLIMIT_INTERACTIVE: number
    crypto_pwhash_str_async(out: Buffer, password: Buffer, opsLimit: number, memLimit: number): Promise<void>
    crypto_pwhash_str_verify_async(hash: Buffer, password: Buffer): Promise<boolean>
    readonly crypto_pwhash_ALG_ARGON2ID13: number
    readonly crypto_pwhash_OPSLIMIT_MODERATE: number
    readonly crypto_pwhash_MEMLIMIT_MODERATE: number
    /** @param memLimit bytes */
    crypto_pwhash_async(
      out: Buffer,
      password: Buffer,
      salt: Buffer,
      opsLimit: number,
      memLimit: number,
      algorithm: number,
    ): Promise<void>
    crypto_generichash(out: Buffer, input: Buffer, key: Buffer): void
    readonly crypto_secretstream_xchacha20poly1305_STATEBYTES: number
    readonly crypto_secretstream_xchacha20poly1305_HEADERBYTES: number
    readonly crypto_secretstream_xchacha20poly1305_ABYTES: number
    readonly crypto_secretstream_xchacha20poly1305_TAG_MESSAGE: number
    readonly crypto_secretstream_xchacha20poly1305_TAG_FINAL: number
    crypto_secretstream_xchacha20poly1305_init_push(state: Buffer, header: Buffer, key: Buffer): void
    crypto_secretstream_xchacha20poly1305_push(
      state: Buffer,
      sealed: Buffer,
      message: Buffer,
      ad: Buffer | null,
      tag: number,
    ): number
    crypto_secretstream_xchacha20poly1305_init_pull(state: Buffer, header: Buffer, key: Buffer): void
    /** @throws Error for what was not sealed with this key, or not as the next piece */
    crypto_secretstream_xchacha20poly1305_pull(
      state: Buffer,
      message: Buffer,
      tag: Buffer,
      sealed: Buffer,
      ad: Buffer | null,
    ): number
  }
  export default sodium
}
