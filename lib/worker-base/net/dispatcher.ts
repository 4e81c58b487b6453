import { Counter, Histogram, type Registry } from 'prom-client'
import type ProtomuxRPC from 'protomux-rpc'
import {
  CANCEL_EVENT,
  encodeAnswer,
  encodeFailure,
  type KeyedCallOptions,
  type OpenedCall,
  openCall,
} from '../../link/index.js'
import {
  type Caller,
  type InputOf,
  MeshError,
  type MethodName,
  methods,
  newRequestId,
  parseJson,
  REQUEST_BOUNDS,
  type RequestOf,
  type ResponseOf,
  validate,
} from '../../protocol/index.js'
import { mustHaveScope, type Principal } from '../../store/index.js'
import type { Logger } from '../log.js'

/** What a handler knows of a call. */
export interface CallContext {
  /** The other side's public key, as the Noise handshake proved it. */
  peer: string
  /** The address that its connection comes from; empty for a call of this process itself. */
  address: string
  role: Caller
  requestId: string
  /** Aborts when the caller cancels, its deadline passes or its link ends. */
  signal: AbortSignal
  /** When the caller stops waiting, by `performance.now()`. */
  deadline: number
  /** Whose API key or token it is; present where the method's scope is not `none`. */
  principal: Principal | undefined
  /** The key itself, for methods that pass the call on. Never log it. */
  key: string | undefined
}

/** A handler of a method that wants a credential is never called without a principal. */
export type Handler<M extends MethodName> = (request: RequestOf<M>, context: CallContext) => Promise<ResponseOf<M>>

/** The peer a call comes from: its role is read at each call, because the directory may have changed. */
export interface CallSource {
  readonly publicKey: string
  readonly address: string
  readonly role: Caller
}

/** A method with its handler and everything that is checked before it. */
type Served = (call: OpenedCall, source: CallSource, running: Map<string, AbortController>) => Promise<unknown>

/** Calls one link may have under way at a time. */
const MAX_CALLS_PER_LINK = 2048

/**
 * One place that every unary call passes: it checks who calls, decodes, validates, bounds, times, counts and turns
 * every outcome into an answer. Nothing a peer sends, and nothing a handler throws, leaves it as an exception.
 */
export class Dispatcher {
  readonly #served = new Map<MethodName, Served>()
  readonly #log: Logger
  readonly #duration: Histogram<'method' | 'code'>
  readonly #refused: Counter<'reason'>
  /** Proves API keys. Set by workers that know the accounts; without it no key is accepted. */
  authenticate: ((key: string) => Principal) | undefined
  /** Reads the JSON of a long body. Set by workers that do not want their loop held. @throws MeshError */
  readLong:
    | ((name: MethodName, caller: { requestId: string; principal: Principal }, json: Uint8Array) => Promise<unknown>)
    | undefined
  /** Resolves once what this worker knows of the accounts is not from before a pause of its process; undefined: it is not now. */
  settled: (() => Promise<void> | undefined) | undefined

  constructor(log: Logger, registry: Registry) {
    this.#log = log
    this.#duration = new Histogram({
      name: 'infermesh_rpc_duration_seconds',
      help: 'Time to answer a unary call.',
      labelNames: ['method', 'code'],
      buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600],
      registers: [registry],
    })
    this.#refused = new Counter({
      name: 'infermesh_rpc_refused_total',
      help: 'Calls refused before their handler ran.',
      labelNames: ['reason'],
      registers: [registry],
    })
    for (const reason of ['role', 'key', 'scope', 'concurrency']) this.#refused.inc({ reason }, 0)
  }

  /** Serves one method. A method may have one handler. */
  respond<M extends MethodName>(name: M, handler: Handler<M>): void {
    if (this.#served.has(name)) throw new Error(`${name} has a handler already`)
    this.#duration.zero({ method: name, code: 'OK' })
    this.#served.set(name, (call, source, running) => this.#run(name, handler, call, source, running))
  }

  /** Serves all methods on one link. Call it in the same tick as the connection. */
  attach(rpc: ProtomuxRPC, source: CallSource): void {
    const running = new Map<string, AbortController>()
    for (const [name, served] of this.#served) {
      rpc.respond(name, (bytes) => this.#answer(name, bytes, source, (call) => served(call, source, running)))
    }
    rpc.respond(CANCEL_EVENT, async (bytes) => {
      running.get(bytes?.toString() ?? '')?.abort(MeshError.CANCELLED('The caller cancelled'))
      return Buffer.alloc(0)
    })
    rpc.on('close', () => {
      for (const controller of running.values()) controller.abort(MeshError.CANCELLED('The caller went away'))
    })
  }

  /**
   * Makes a call here as a client would over a link: the same checks, the same handlers.
   * @throws MeshError
   */
  async call<M extends MethodName>(
    name: M,
    body: InputOf<M>,
    { key, requestId = newRequestId(), signal, timeoutMs }: KeyedCallOptions = {},
  ): Promise<ResponseOf<M>> {
    const started = performance.now()
    const running = new Map<string, AbortController>()
    const onAbort = () => running.get(requestId)?.abort(MeshError.CANCELLED('The caller went away', { requestId }))
    signal?.addEventListener('abort', onAbort, { once: true })
    let code = 'OK'
    try {
      const call = { requestId, key, timeoutMs, body, isRead: true }
      const served = this.#served.get(name)
      if (served === undefined) throw MeshError.UNKNOWN_METHOD(`${name} is not served here`, { requestId })
      const answer = await served(call, { publicKey: '', address: '', role: 'client' }, running)
      return validate(methods[name].response, answer, `answer to ${name}`, 'INTERNAL')
    } catch (err) {
      code = MeshError.from(err).code
      throw err
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#duration.observe({ method: name, code }, (performance.now() - started) / 1000)
    }
  }

  async #answer(
    name: MethodName,
    bytes: Buffer | null,
    source: CallSource,
    run: (call: OpenedCall) => Promise<unknown>,
  ): Promise<Buffer> {
    const started = performance.now()
    let code = 'OK'
    let requestId: string | undefined
    try {
      this.#assertRole(name, source)
      const call = openCall(name, bytes ?? Buffer.alloc(0), source.role === 'client')
      requestId = call.requestId
      return encodeAnswer(await run(call))
    } catch (err) {
      const failure = MeshError.from(err)
      code = failure.code
      if (code === 'INTERNAL') this.#log.error({ err, method: name, requestId }, 'a method failed unexpectedly')
      return encodeFailure(failure)
    } finally {
      this.#duration.observe({ method: name, code }, (performance.now() - started) / 1000)
    }
  }

  async #run<M extends MethodName>(
    name: M,
    handler: Handler<M>,
    call: OpenedCall,
    source: CallSource,
    running: Map<string, AbortController>,
  ): Promise<ResponseOf<M>> {
    const spec = methods[name]
    const { role, publicKey, address } = source
    this.#assertRole(name, source)
    if (spec.scope !== 'none') await this.settled?.()
    const principal = this.#principal(name, call)
    if (running.size >= MAX_CALLS_PER_LINK) {
      this.#refused.inc({ reason: 'concurrency' })
      throw MeshError.BUSY(`This link has ${running.size} calls under way`, { retryAfterMs: 1000 })
    }
    if (running.has(call.requestId)) throw MeshError.CONFLICT(`The request id ${call.requestId} is in use on this link`)

    const controller = new AbortController()
    const timeoutMs = call.timeoutMs ?? spec.timeoutMs
    const timer = setTimeout(
      () => controller.abort(MeshError.TIMEOUT(`${name} was not done within ${timeoutMs} ms`)),
      timeoutMs,
    )
    // A handler may be slow to heed its signal; what waited for the deadline need not wait for the handler.
    controller.signal.addEventListener('abort', () => clearTimeout(timer), { once: true })
    running.set(call.requestId, controller)
    try {
      const body = call.isRead ? call.body : await this.#longBody(name, call, principal)
      return await handler(validate(spec.request, body, name), {
        peer: publicKey,
        address,
        role,
        requestId: call.requestId,
        signal: controller.signal,
        deadline: performance.now() + timeoutMs,
        principal,
        key: call.key,
      })
    } finally {
      clearTimeout(timer)
      running.delete(call.requestId)
    }
  }

  #assertRole(name: MethodName, { role }: CallSource): void {
    if (methods[name].callers.includes(role)) return
    this.#refused.inc({ reason: 'role' })
    throw MeshError.FORBIDDEN(
      `${role === 'client' ? 'A client' : `A worker with the role ${role}`} may not call ${name}`,
    )
  }

  async #longBody(name: MethodName, { requestId, body }: OpenedCall, principal: Principal | undefined) {
    if (!(body instanceof Uint8Array)) return body
    if (principal === undefined || this.readLong === undefined) return parseJson(body, 'The request', REQUEST_BOUNDS)
    return this.readLong(name, { requestId, principal }, body)
  }

  #principal(name: MethodName, call: OpenedCall): Principal | undefined {
    const { scope } = methods[name]
    if (scope === 'none') return undefined
    if (this.authenticate === undefined) throw MeshError.FORBIDDEN(`${name} is not served here`)
    if (call.key === undefined) {
      this.#refused.inc({ reason: 'key' })
      throw MeshError.INVALID_API_KEY(`${name} wants an API key. Give one with --key, INFERMESH_KEY or apiKey`)
    }
    let reason = 'key'
    try {
      const principal = this.authenticate(call.key)
      reason = 'scope'
      mustHaveScope(principal, scope, name)
      return principal
    } catch (err) {
      this.#refused.inc({ reason })
      throw err
    }
  }
}
