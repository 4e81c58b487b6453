import type { GenerationSink, Link } from '../../lib/link/index.js'
import {
  AnswerCollector,
  type GenerateAsk,
  type InferenceRequest,
  type InferenceResult,
  MeshError,
  type Model,
  pageOf,
  type RequestOf,
} from '../../lib/protocol/index.js'
import { mustHaveScope } from '../../lib/store/index.js'
import type { CallContext, Net } from '../../lib/worker-base/index.js'
import { nameOf } from './catalogue.js'
import type { GatewayParts } from './parts.js'
import type { RequestContext } from './requests/index.js'

/** Serves everything that clients ask of a gateway over their links. @param mesh the mesh's address */
export function serveMethods(net: Net, mesh: string, parts: GatewayParts): void {
  serveInference(net, parts)
  serveViews(net, mesh, parts)
  serveModels(net, parts)
}

function serveInference(net: Net, { accounts, bodies, requests }: GatewayParts): void {
  const { dispatcher } = net
  const whole = async (request: InferenceRequest, call: CallContext): Promise<InferenceResult> => {
    const context = contextOf(call)
    const collected = new AnswerCollector()
    const finish = await requests.generate(request, context, (event) => collected.add(event))
    return collected.result(context.requestId, finish)
  }
  const streamed = async ({ requestId, key, kind, body }: GenerateAsk, sink: GenerationSink): Promise<void> => {
    if (key === undefined) throw MeshError.INVALID_API_KEY('A generation wants an API key')
    await accounts.settled()
    const principal = accounts.authenticate(key)
    mustHaveScope(principal, 'inference', 'A generation')
    const context = { requestId, principal, signal: sink.signal }
    requests.assertMayAsk(kind, context)
    const { user } = context.principal
    const room = bodies.hold(user, body.byteLength)
    try {
      const request = await bodies.read('generation', user, body)
      sink.finish(await requests.generate(request, context, (event) => sink.push(event)))
    } finally {
      room.release()
    }
  }
  dispatcher.readLong = async (method, { requestId, principal }, body) => {
    requests.assertMayAsk(method === 'complete' ? 'completion' : method === 'embed' ? 'embedding' : 'chat', {
      requestId,
      principal,
    })
    const room = bodies.hold(principal.user, body.byteLength)
    try {
      return await bodies.read(method === 'embed' ? 'embedding' : 'generation', principal.user, body)
    } finally {
      room.release()
    }
  }
  net.onGenerate(['client'], streamed)
  dispatcher.respond('chat', whole)
  dispatcher.respond('complete', whole)
  dispatcher.respond('embed', (request, call) => requests.embed(request, contextOf(call)))
}

/** The dispatcher calls a handler of a method that wants a credential only with a principal. */
function contextOf({ requestId, principal, signal }: CallContext): RequestContext {
  if (principal === undefined) throw new Error('a method without a credential has no principal')
  return { requestId, principal, signal }
}

function serveViews(net: Net, mesh: string, { catalogue, journal, limiter }: GatewayParts): void {
  const { dispatcher } = net
  dispatcher.respond('models', async (page) => {
    const { items: models, ...end } = pageOf(catalogue.models(), ({ name }) => name, page)
    return { models, ...end }
  })
  dispatcher.respond('mesh.status', async () => ({ mesh, workers: net.views(), models: catalogue.models() }))
  dispatcher.respond('usage.self', async (_request, call) => {
    const { principal } = contextOf(call)
    const { keyId, user, role, scopes, expiresAt, limits } = principal
    return {
      keyId,
      user,
      role,
      scopes: [...scopes],
      ...(expiresAt !== undefined && { expiresAt }),
      limits: { ...limits, parents: [...limits.parents] },
      ...journal.totals(`key/${keyId}`),
      budgetRemaining: limiter.budgetRemaining(principal),
      uses: limiter.uses(principal),
    }
  })
}

function serveModels(net: Net, { catalogue }: GatewayParts): void {
  const { directory, dispatcher } = net
  dispatcher.respond('models.add', async ({ path, name, processor }, { signal }) => {
    const link = catalogue.processor(processor)
    const model = await link.call('processor.models.add', { path, name }, { signal })
    const mayServe = () => directory.mayServe(link.publicKey, model.name)
    const approved = await untilUsable({ catalogue, model, link, mayServe, signal })
    const isDefault = approved && catalogue.find(undefined)?.name === model.name
    return { ...model, processor: nameOf(link), approved, ...(isDefault && { default: true }) }
  })
  dispatcher.respond('models.remove', async (request, { key, requestId, signal }) => {
    const { name, processor } = request
    const wasListed = catalogue.find(name) !== undefined
    const links = catalogue.processorsNaming(name, processor)
    await Promise.all(links.map((link) => dropModel(link, name)))
    const processors = links.map(nameOf)
    const told = await forgetModel(net, request, processors, { key, requestId, signal })
    const forgotten = told.filter((one) => !processors.includes(one))
    if (processors.length + forgotten.length === 0 && !wasListed) {
      throw MeshError.MODEL_NOT_FOUND(catalogue.missing(name), { param: 'name' })
    }
    if (processors.length + forgotten.length === 0 && processor !== undefined) {
      throw MeshError.MODEL_NOT_FOUND(`${processor} does not have the model ${name}`, { param: 'processor' })
    }
    return { processors, ...(forgotten.length > 0 && { forgotten }) }
  })
}

/** Has a processor forget a model; one that has done so already is asked for nothing more. @throws MeshError */
async function dropModel(link: Link, name: string): Promise<void> {
  try {
    await link.call('processor.models.remove', { name })
  } catch (err) {
    if (MeshError.from(err).code !== 'MODEL_NOT_FOUND') throw err
  }
}

/**
 * Has the authority forget what is said of a model, also by processors that cannot be told.
 * @param done names of the processors that have forgotten it
 * @returns names of all that had announced it still
 * @throws MeshError AUTHORITY_DOWN and as the authority says
 */
async function forgetModel(
  net: Net,
  request: RequestOf<'models.remove'>,
  done: readonly string[],
  options: Pick<CallContext, 'key' | 'requestId' | 'signal'>,
): Promise<string[]> {
  try {
    const { processors } = await net.authority().call('models.forget', request, options)
    return processors
  } catch (err) {
    const failure = MeshError.from(err)
    if (failure.code !== 'AUTHORITY_DOWN' || done.length === 0) throw err
    throw MeshError.AUTHORITY_DOWN(
      `${request.name} is no longer served by ${done.join(', ')}, but the mesh lists it until the auth worker can be reached. Try again then`,
      failure.details,
      { cause: err },
    )
  }
}

/** How long the directory, and the processor's own report, may take to tell this gateway of a model. */
const USABLE_MS = 5000
const STEP_MS = 5

/**
 * Waits until this gateway would give a request for the model to the processor, so that what is answered is true.
 * @returns false at once for a guest that the model is not approved for: it waits for an admin
 * @throws MeshError MODEL_CONFLICT where the name stands for another file, TIMEOUT
 */
async function untilUsable({
  catalogue,
  model: { name, hash },
  link,
  mayServe,
  signal,
}: {
  catalogue: GatewayParts['catalogue']
  model: Pick<Model, 'name' | 'hash'>
  link: Link
  mayServe: () => boolean
  signal: AbortSignal
}): Promise<boolean> {
  const deadline = performance.now() + USABLE_MS
  while (!catalogue.processorsWith(name).includes(link)) {
    const listed = catalogue.find(name)
    if (listed !== undefined && listed.hash !== hash) {
      throw MeshError.MODEL_CONFLICT(`${name} stands for another file in this mesh: give this one another name`)
    }
    if (!mayServe()) return false
    if (performance.now() > deadline || signal.aborted) {
      throw MeshError.TIMEOUT(
        `${nameOf(link)} has ${name}, but the authority has not listed it yet: it will once it can`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, STEP_MS))
  }
  return true
}
