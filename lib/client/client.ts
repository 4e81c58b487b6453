import { existsSync } from 'node:fs'
import RPC from '@hyperswarm/rpc'
import DHT from 'hyperdht'
import { nodesKeeper } from '../home/index.js'
import {
  bootstrapNodeSchema,
  type CallOptions,
  decodeKey,
  type EmbeddingRequest,
  type EmbeddingResult,
  encodeKey,
  type GenerateEvent,
  type InferenceInput,
  type InputOf,
  isLoopback,
  LOOPBACK,
  type Member,
  type MemberNode,
  MeshError,
  type MeshProfile,
  type MethodName,
  methods,
  newRequestId,
  nodeAddress,
  type ResponseOf,
  requestIdSchema,
  validate,
} from '../protocol/index.js'
import { type Admin, makeAdmin } from './admin.js'
import { type AdmissionOptions, askAdmission } from './admission.js'
import { Answer, cancelReason } from './answer.js'
import { DirectoryCopy } from './directory.js'
import { makeFetch } from './fetch.js'
import { type MeshClientOptions, resolveOptions, type Settings } from './options.js'
import { gather } from './pages.js'
import { Peer } from './peer.js'
import { answers, unreachable } from './reach.js'
import { Search } from './search.js'

/** How long one dial may take; a dead peer on the same machine or LAN shows itself much sooner than one behind a NAT. */
const DIAL_MS = { local: 1000, lan: 1500, private: 12_000, public: 12_000 } as const
/** A gateway that has just failed is tried last for this long. */
const AVOID_MS = 5000
const REDIAL_MS = 150
/** How long the directory may take to come from an authority that is connected. */
const LISTED_MS = 5000

/** Nodes that are asked where the mesh has moved: whoever tells of more, tells stories. */
const MAX_ELSEWHERE = 32

type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
/** What `chat` takes: `messages`, and whatever of `model`, `maxTokens`, `sampling`, `stop`, `format` is wanted. */
export type ChatRequest = Without<Extract<InferenceInput, { kind: 'chat' }>, 'kind'>
/** What `complete` takes: `prompt`, and the same as `chat`. */
export type CompletionRequest = Without<Extract<InferenceInput, { kind: 'completion' }>, 'kind'>

/** Calls that change nothing, or whose doing twice harms nobody: asked again where the answer was lost with the link. */
const REPEATABLE: ReadonlySet<MethodName> = new Set([
  'ping',
  'embed',
  'models',
  'usage.self',
  'mesh.status',
  'users.list',
  'keys.list',
  'members.list',
  'invites.list',
  'admission.list',
  'admission.wait',
  'audit.list',
  'usage.query',
])

/**
 * A client of one mesh. It connects at the first call, keeps one gateway, and takes another when that one is lost.
 * Call `close()` when done: an open client keeps the process alive.
 *
 * Only a gateway that the mesh's directory lists gets the key and the prompts.
 */
export class MeshClient {
  /** The mesh's address. */
  readonly address: string
  /** How the mesh is reached: who can find it, and the DHT nodes it is looked for at. */
  readonly network: MeshProfile['network']
  /** Users, keys, members, invites, audit and usage: what an admin manages. */
  readonly admin: Admin
  /**
   * A WHATWG `fetch` that reaches a gateway's HTTP routes over the mesh, whatever host the URL names, so that any client
   * of OpenAI works without a port: `new OpenAI({ apiKey: 'mesh', baseURL: 'http://mesh/v1', fetch: mesh.fetch })`. A request
   * that carries no credential of a mesh gets this client's own key.
   */
  readonly fetch: typeof globalThis.fetch
  readonly #settings: Settings
  readonly #dht: DHT
  readonly #rpc: RPC
  readonly #directory: DirectoryCopy
  readonly #directoryReady: Promise<void>
  readonly #peers = new Set<Peer>()
  readonly #failed = new Map<string, number>()
  /** Peers that were not where they were seen last: from then on the DHT is asked. */
  readonly #moved = new Set<string>()
  readonly #keepNodes: (nodes: readonly MemberNode[]) => void
  #gateway: Peer | undefined
  #finding: Promise<Peer> | undefined
  #authority: Peer | undefined
  #dialling: Promise<Peer> | undefined
  #closing: Promise<void> | undefined

  /** @throws MeshError CONFIG_INVALID where no mesh is named, BAD_REQUEST or INVALID_API_KEY where an option is wrong */
  constructor(options: MeshClientOptions = {}) {
    this.#settings = resolveOptions(options)
    const { address, core, network, bootstrap } = this.#settings
    this.address = address
    this.network = network
    // It is a help and no record: where it cannot be written the next client asks the DHT.
    this.#keepNodes = nodesKeeper(this.#settings.home, address, () => {})
    this.#dht = new DHT({
      keyPair: DHT.keyPair(options.seed),
      ...(network.kind === 'public' ? {} : { bootstrap }),
      ...(isLoopback(network) ? { host: LOOPBACK } : {}),
    })
    this.#rpc = new RPC({ dht: this.#dht, keyPair: this.#dht.defaultKeyPair })
    this.#directory = new DirectoryCopy(core)
    this.#directoryReady = this.#directory.ready()
    this.#directoryReady.catch(() => {})
    this.#directory.view.on('change', () => {
      this.#checkTrust()
      this.#remember()
    })
    this.fetch = makeFetch({
      connect: (signal) => this.#connected(signal),
      onFailure: (peer, err) => {
        // A gateway may refuse one channel and be well.
        const isGone = peer.closed || (err instanceof MeshError && err.code === 'SHUTTING_DOWN')
        if (isGone) this.#noteFailure(peer, err)
        return isGone
      },
      key: this.#settings.key,
    })
    this.admin = makeAdmin({
      authority: (name, body, callOptions) => this.#askAuthority(name, body, callOptions),
      gateway: (name, body, callOptions) => this.#ask(name, body, callOptions),
    })
  }

  /** Whether it has a key to show; without one it can do little more than connect. */
  get hasKey(): boolean {
    return this.#settings.key !== undefined
  }

  /** Makes a client and waits until it has a gateway. @throws MeshError: which step of connecting failed */
  static async connect(options: MeshClientOptions & { signal?: AbortSignal } = {}): Promise<MeshClient> {
    const client = new MeshClient(options)
    try {
      await client.connect({ signal: options.signal })
      return client
    } catch (err) {
      await client.close()
      throw err
    }
  }

  /**
   * Waits until there is a gateway. Calls do so by themselves.
   * @throws MeshError DHT_UNREACHABLE, MESH_NOT_FOUND, UNTRUSTED_GATEWAY, PEER_NOT_FOUND, HOLE_PUNCH_FAILED, REFUSED
   */
  async connect(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#connected(options.signal)
  }

  /** Asks for an answer to a conversation. It begins at once; see Answer for how to read it. */
  chat(request: ChatRequest, options: CallOptions = {}): Answer {
    return this.#generate({ kind: 'chat', ...request }, options)
  }

  /** Asks for a continuation of a text, without the model's chat template. */
  complete(request: CompletionRequest, options: CallOptions = {}): Answer {
    return this.#generate({ kind: 'completion', ...request }, options)
  }

  /** Vectors for texts. `input` may be one text or many. @throws MeshError */
  async embed(
    request: Omit<EmbeddingRequest, 'input'> & { input: string | string[] },
    options?: CallOptions,
  ): Promise<EmbeddingResult> {
    const input = typeof request.input === 'string' ? [request.input] : request.input
    return this.#ask('embed', { ...request, input }, options)
  }

  /** The mesh's models, and which processors have each. @throws MeshError */
  async models(options?: CallOptions): Promise<ResponseOf<'models'>['models']> {
    return gather(
      (page) => this.#ask('models', page, options),
      ({ models }) => models,
    )
  }

  /**
   * Whose key this client has, what it may be used for, the limits that hold for it, and how far each is used at this
   * client's gateway. @throws MeshError
   */
  whoami(options?: CallOptions): Promise<ResponseOf<'usage.self'>> {
    return this.#ask('usage.self', {}, options)
  }

  /** The same: what this client's key has used, and may use. @throws MeshError */
  usage(options?: CallOptions): Promise<ResponseOf<'usage.self'>> {
    return this.whoami(options)
  }

  /** Who runs in the mesh, as the gateway sees it. @throws MeshError */
  status(options?: CallOptions): Promise<ResponseOf<'mesh.status'>> {
    return this.#ask('mesh.status', {}, options)
  }

  /** The gateway's clock, in milliseconds since the epoch, and how long the answer took. @throws MeshError */
  async ping(options?: CallOptions): Promise<{ at: number; rttMs: number }> {
    await this.#connected(options?.signal)
    const startedAt = performance.now()
    const { at } = await this.#ask('ping', {}, options)
    return { at, rttMs: performance.now() - startedAt }
  }

  /** Makes a user for oneself, where the mesh allows that. Needs no key. @throws MeshError */
  register(body: InputOf<'users.register'>, options?: CallOptions): Promise<ResponseOf<'users.register'>> {
    return this.#askAuthority('users.register', body, options)
  }

  /** Gives a token for a name and password: a credential for a quarter of an hour. Needs no key. @throws MeshError */
  login(body: Omit<InputOf<'login'>, 'address'>, options?: CallOptions): Promise<ResponseOf<'login'>> {
    return this.#askAuthority('login', body, options)
  }

  /**
   * Spends an invite: the key pair of this client, which `seed` names, becomes a member of the mesh.
   * @throws MeshError INVITE_INVALID, CONFLICT where the name is taken, AUTHORITY_DOWN
   */
  async join(body: InputOf<'join'>, options?: CallOptions): Promise<Member> {
    return (await this.#askAuthority('join', body, options)).member
  }

  /**
   * Asks for admission without an invite: an admin who sees the same code says yes, and the key pair of this client, which
   * `seed` names, is a member of the mesh. Wants the authority's key in the option `mesh`, as a profile has it.
   * @throws MeshError FORBIDDEN where no requests are taken, or this one was refused; CONFLICT where the name is taken, BUSY,
   * RATE_LIMITED, TIMEOUT, UNTRUSTED_GATEWAY where who said yes is not the authority of the mesh with this address
   */
  async askToJoin(options: AdmissionOptions): Promise<Member> {
    const { authority } = this.#settings
    if (authority === undefined) throw MeshError.BAD_REQUEST('askToJoin wants a profile as the option mesh')
    const applicant = encodeKey(this.#dht.defaultKeyPair.publicKey)
    const member = await askAdmission(
      (name, body, callOptions) => this.#askAuthority(name, body, callOptions),
      { authority, applicant },
      options,
    )
    // Its signed directory is what the address proves. Whoever answers here need not be its authority.
    if (await this.#directory.lists(authority, 'auth', LISTED_MS)) return member
    throw MeshError.UNTRUSTED_GATEWAY(
      `Whoever accepted this machine is not the authority of the mesh ${this.address}, and may have been an impostor`,
    )
  }

  /** Public key and name of the gateway in use; undefined while there is none. */
  get gateway(): { publicKey: string; name: string } | undefined {
    if (this.#gateway === undefined || this.#gateway.closed) return undefined
    const { publicKey } = this.#gateway
    return { publicKey, name: this.#directory.view.member(publicKey)?.name ?? '' }
  }

  /** Ends what is under way and lets everything go. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const gone = [...this.#peers].map((peer) => {
      peer.close()
      return peer.gone
    })
    await this.#directoryReady.catch(() => {})
    // What a connection still brings goes into the directory: that is closed last.
    await Promise.all(gone)
    await this.#rpc.destroy({ force: true })
    await this.#dht.destroy({ force: true })
    await this.#directory.close()
  }

  // --- calls ---

  #generate(input: InferenceInput, options: CallOptions): Answer {
    const { requestId = newRequestId(), signal, timeoutMs } = options
    const timeout = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs)
    const signals = [signal, timeout].filter((one) => one !== undefined)
    return new Answer(
      requestId,
      (ended) => this.#events(input, requestId, ended),
      signals.length > 1 ? AbortSignal.any(signals) : signals[0],
    )
  }

  /** The events of a generation. A stream that is lost before its first token is asked for once more elsewhere. */
  async *#events(input: InferenceInput, requestId: string, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
    checkRequestId(requestId)
    const key = this.#key('An answer')
    for (let attempt = 1; ; attempt++) {
      const gateway = await this.#connected(signal)
      let begun = false
      try {
        for await (const event of gateway.generate({ requestId, key, request: input }, signal)) {
          begun ||= event.type === 'tokens'
          yield event
        }
        return
      } catch (err) {
        this.#noteFailure(gateway, err)
        if (begun || attempt > 1 || !isLost(err)) throw err
      }
    }
  }

  async #ask<M extends MethodName>(name: M, body: InputOf<M>, options: CallOptions = {}): Promise<ResponseOf<M>> {
    return this.#call((signal) => this.#connected(signal), name, body, options)
  }

  async #askAuthority<M extends MethodName>(
    name: M,
    body: InputOf<M>,
    options: CallOptions = {},
  ): Promise<ResponseOf<M>> {
    return this.#call((signal) => this.#toAuthority(signal), name, body, options)
  }

  async #call<M extends MethodName>(
    connect: (signal?: AbortSignal) => Promise<Peer>,
    name: M,
    body: InputOf<M>,
    options: CallOptions,
  ): Promise<ResponseOf<M>> {
    const { signal, timeoutMs, requestId = newRequestId() } = options
    checkRequestId(requestId)
    const key = methods[name].scope === 'none' ? undefined : this.#key('This')
    for (let attempt = 1; ; attempt++) {
      const peer = await connect(signal)
      try {
        return await peer.call(name, body, { key, requestId, signal, timeoutMs })
      } catch (err) {
        this.#noteFailure(peer, err)
        if (attempt > 1 || !isLost(err) || !REPEATABLE.has(name)) throw cancelReason(signal, requestId) ?? err
      }
    }
  }

  #key(what: string): string {
    const { key } = this.#settings
    if (key !== undefined) return key
    throw MeshError.INVALID_API_KEY(
      `${what} wants an API key, and this machine holds none. \`infermesh keys create\` makes one where the admin key is: give what it prints to \`infermesh login\`, or the key in --key or INFERMESH_KEY, in code as the option key`,
    )
  }

  // --- connections ---

  #dial = (publicKey: Buffer): Peer => {
    const { nodes, network } = this.#settings
    const key = encodeKey(publicKey)
    const peer = new Peer({
      rpc: this.#rpc,
      store: this.#directory.store,
      publicKey,
      // One after the other: more would keep the call waiting.
      nodes: this.#moved.has(key) ? [] : nodes.filter((node) => node.publicKey === key).slice(0, 1),
      dialMs: DIAL_MS[network.kind],
      roleOf: (key) => this.#directory.roleOf(key) ?? 'client',
    })
    this.#peers.add(peer)
    let wasOpen = false
    peer.once('open', () => {
      wasOpen = true
    })
    peer.once('close', () => {
      this.#peers.delete(peer)
      if (!wasOpen) this.#moved.add(key)
    })
    return peer
  }

  /** Where no known node answers: begins at those that the mesh has elsewhere. @returns whether there are any */
  #goElsewhere = async (): Promise<boolean> => {
    const { findElsewhere, address, nodes } = this.#settings
    const told = (await findElsewhere?.(address)) ?? []
    const found = told.filter((node) => bootstrapNodeSchema.safeParse(node).success).slice(0, MAX_ELSEWHERE)
    if (found.length === 0 || this.#closing !== undefined) return false
    this.#settings.bootstrap = found
    for (const { publicKey } of nodes) this.#moved.add(publicKey)
    this.#dht.bootstrapNodes = found.map(nodeAddress)
    return true
  }

  /** A gateway, the one in use or a new one. */
  async #connected(signal: AbortSignal | undefined): Promise<Peer> {
    this.#assertOpen()
    if (this.#gateway !== undefined && !this.#gateway.closed) return this.#gateway
    this.#finding ??= this.#find().finally(() => {
      this.#finding = undefined
    })
    return unlessAborted(this.#finding, signal)
  }

  async #find(): Promise<Peer> {
    await this.#directoryReady
    const now = performance.now()
    for (const [publicKey, at] of this.#failed) if (now - at > AVOID_MS) this.#failed.delete(publicKey)
    const search = new Search({
      settings: this.#settings,
      dht: this.#dht,
      directory: this.#directory,
      dial: this.#dial,
      avoid: new Set(this.#failed.keys()),
      goElsewhere: this.#goElsewhere,
    })
    const gateway = await search.run()
    this.#assertOpen()
    this.#gateway = gateway
    return gateway
  }

  /** The authority, whose public key a profile or the directory tells. */
  async #toAuthority(signal: AbortSignal | undefined): Promise<Peer> {
    this.#assertOpen()
    if (this.#authority !== undefined && !this.#authority.closed) return this.#authority
    this.#dialling ??= this.#dialAuthority().finally(() => {
      this.#dialling = undefined
    })
    return unlessAborted(this.#dialling, signal)
  }

  async #dialAuthority(): Promise<Peer> {
    await this.#directoryReady
    const publicKey = this.#settings.authority ?? (await this.#listedAuthority())
    let deadline = performance.now() + this.#settings.timeoutMs / 2
    let hasLooked = false
    while (true) {
      this.#assertOpen()
      const peer = this.#dial(decodeKey(publicKey))
      const failure = await failureToOpen(peer)
      if (failure === undefined) {
        this.#authority = peer
        return peer
      }
      if (failure.code === 'VERSION_MISMATCH') throw failure
      if (performance.now() + REDIAL_MS > deadline) {
        const isAway = !hasLooked && !(await this.#isReached())
        hasLooked = true
        if (!isAway || !(await this.#goElsewhere())) throw await this.#whyNoAuthority(failure)
        deadline = performance.now() + this.#settings.timeoutMs / 2
      }
      await new Promise((resolve) => setTimeout(resolve, REDIAL_MS))
    }
  }

  /** What keeps a client from the authority: the network, where nobody of the mesh answers, else what the last dial said. */
  async #whyNoAuthority(failure: MeshError): Promise<MeshError> {
    const details = { mesh: this.address, cause: failure.code }
    if (!(await this.#isReached())) return unreachable(this.#settings, details)
    const rest = this.#isConnected
      ? 'Inference goes on without it, but nothing can be changed: start it, or try again shortly'
      : 'Nothing can be changed without it: `infermesh up` where the mesh was made starts it; or try again shortly'
    return MeshError.AUTHORITY_DOWN(
      `The auth worker of the mesh cannot be reached (${failure.message}). ${rest}`,
      { ...details, retryAfterMs: 2000 },
      { cause: failure },
    )
  }

  get #isConnected(): boolean {
    return this.#gateway !== undefined && !this.#gateway.closed
  }

  /** Whether anything of the mesh's network answers. */
  async #isReached(): Promise<boolean> {
    return this.#isConnected || (await answers(this.#dht, this.#settings.bootstrap))
  }

  /** Whom the directory names as the authority, read from any gateway. */
  async #listedAuthority(): Promise<string> {
    const { view } = this.#directory
    if (!view.known) await this.#connected(undefined)
    const [authority] = view.membersWithRole('auth')
    if (authority === undefined) throw MeshError.AUTHORITY_DOWN('The directory of this mesh names no auth worker')
    return authority.publicKey
  }

  /** The home remembers where the mesh's nodes are, for the next client; a home that is not there is not made. */
  #remember(): void {
    if (existsSync(this.#settings.home)) this.#keepNodes(this.#directory.view.nodes)
  }

  /** A gateway that was removed from the mesh gets nothing more. */
  #checkTrust(): void {
    const gateway = this.#gateway
    if (gateway === undefined || gateway.closed || gateway.role === 'gateway') return
    gateway.close(MeshError.UNTRUSTED_GATEWAY('The gateway in use was removed from the mesh'))
  }

  #noteFailure(peer: Peer, err: unknown): void {
    if (!isLost(err)) return
    this.#failed.set(peer.publicKey, performance.now())
    // A gateway that is shutting down answers still: do not ask it again.
    peer.close(MeshError.from(err))
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw MeshError.LINK_CLOSED('This client was closed')
  }
}

/** @throws MeshError BAD_REQUEST for what is no request id */
function checkRequestId(requestId: string): void {
  validate(requestIdSchema, requestId, 'requestId')
}

/** True where another gateway may do what this one could not. */
function isLost(err: unknown): boolean {
  return err instanceof MeshError && (err.code === 'LINK_CLOSED' || err.code === 'SHUTTING_DOWN')
}

/** Waits until a dial has ended. @returns why it failed; undefined where the peer is connected */
function failureToOpen(peer: Peer): Promise<MeshError | undefined> {
  return new Promise((resolve) => {
    peer.once('open', () => resolve(undefined))
    peer.once('close', resolve)
  })
}

/** @throws MeshError CANCELLED or TIMEOUT as soon as the signal aborts; the work itself goes on for others */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  let onAbort: () => void = () => {}
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelReason(signal) ?? MeshError.CANCELLED('The call was cancelled'))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
