import test from 'brittle'
import { MeshError, type Model, type ModelLoad } from '../lib/protocol/index.js'
import { Catalogue, type ProcessorLink } from '../workers/gateway/catalogue.js'
import { testModel } from './helpers/model.js'

const model = (name: string) => testModel(name, `hash of ${name}`)

function has(name: string, more: Partial<ModelLoad> = {}): ModelLoad {
  return { name, hash: `hash of ${name}`, state: 'loaded', slots: 4, busySlots: 0, contextLength: 2048, ...more }
}

/** A link to a processor that reports these models. */
function link(name: string, models: ModelLoad[], state: 'starting' | 'ready' | 'draining' = 'ready'): ProcessorLink {
  return { publicKey: `key of ${name}`, hello: { name }, load: { state, running: 0, queued: 0, models } }
}

interface Setup {
  models?: Model[]
  links?: ProcessorLink[]
  defaultModel?: string
  mayServe?: (publicKey: string, model: string) => boolean
}

function setup({
  models = [model('tiny')],
  links = [link('p1', [has('tiny')])],
  defaultModel,
  mayServe = () => true,
}: Setup = {}) {
  const directory = new Map(models.map((one) => [one.name, one]))
  return new Catalogue<ProcessorLink>({
    models: directory,
    processors: () => links,
    defaultModel: () => defaultModel,
    mayServe,
  })
}

function failure(work: () => unknown): MeshError {
  try {
    work()
  } catch (err) {
    return MeshError.from(err)
  }
  throw new Error('did not fail')
}

test('a request that names no model gets the default, whatever else there is', (t) => {
  const models = [model('zebra'), model('ant'), model('fox')]
  t.is(setup({ models, defaultModel: 'fox' }).model(undefined).name, 'fox')
  t.is(setup({ models, defaultModel: 'fox' }).model('zebra').name, 'zebra')
  t.alike(
    setup({ models, defaultModel: 'fox' })
      .models()
      .map((one) => [one.name, one.default]),
    [
      ['ant', undefined],
      ['fox', true],
      ['zebra', undefined],
    ],
  )
  t.is(setup({ models }).find('cat'), undefined)
  t.is(setup({ models: [] }).find(undefined), undefined)
})

test('a model that the mesh has not is refused with those it has', (t) => {
  const unknown = failure(() => setup({ models: [model('fox'), model('ant')] }).model('cat'))
  t.is(unknown.code, 'MODEL_NOT_FOUND')
  t.is(unknown.message, 'There is no model "cat"; this mesh has ant, fox')
  t.is(unknown.details.param, 'model')
  t.is(
    failure(() => setup({ defaultModel: 'cat' }).model(undefined)).message,
    'This mesh has "cat" as default model, which is gone: name one of tiny, or set another with `infermesh models default`',
  )
  t.ok(failure(() => setup().model(undefined)).message.startsWith('This mesh has no default model: name one of tiny'))
  const many = Array.from({ length: 30 }, (_, i) => model(`m${String(i).padStart(2, '0')}`))
  t.ok(failure(() => setup({ models: many }).model('cat')).message.endsWith(', m19'), 'not all of many')
  t.is(
    failure(() => setup({ models: [] }).model(undefined)).message,
    'This mesh has no model yet: start a processor, or add one with `infermesh models add`',
  )
})

test('a candidate is ready, and has the very file that the directory names', (t) => {
  const links = [
    link('loaded', [has('other'), has('tiny')]),
    link('available', [has('tiny', { state: 'available', slots: 0 })]),
    link('loading', [has('tiny', { state: 'loading', slots: 0 })]),
    link('failed', [has('tiny', { state: 'failed' })]),
    link('other file', [has('tiny', { hash: 'another' })]),
    link('without', [has('other')]),
    link('starting', [has('tiny')], 'starting'),
    link('draining', [has('tiny')], 'draining'),
    { publicKey: 'key of silent', hello: undefined, load: undefined },
  ]
  const catalogue = setup({ links })
  t.alike(catalogue.candidates('tiny'), [
    { id: 'key of loaded', slots: 4, loaded: true, contextLength: 2048 },
    { id: 'key of available', slots: 1, loaded: false },
    { id: 'key of loading', slots: 1, loaded: false },
  ])
  t.alike(
    catalogue.processorsWith('tiny').map(({ publicKey }) => publicKey),
    ['key of loaded', 'key of available', 'key of loading'],
  )
  t.alike(catalogue.candidates('cat'), [])
})

test('models are listed by name with who can serve each', (t) => {
  const links = [link('p1', [has('fox'), has('ant')]), link('p2', [has('ant')])]
  const catalogue = setup({ models: [model('fox'), model('ant'), model('bee')], links })
  t.alike(
    catalogue.models().map(({ name, hash, processors }) => [name, hash, processors]),
    [
      ['ant', 'hash of ant', ['p1', 'p2']],
      ['bee', 'hash of bee', []],
      ['fox', 'hash of fox', ['p1']],
    ],
  )
})

test('whether anything can be served', (t) => {
  t.is(setup().lacking, undefined)
  t.is(setup({ links: [] }).lacking, 'no processor that has a model is connected')
  t.is(setup({ models: [model('other')] }).lacking, 'no processor that has a model is connected')
  const links = [link('p1', [has('tiny', { state: 'loading' })]), link('p2', [has('tiny', { state: 'failed' })])]
  t.is(setup({ links }).lacking, 'tiny at p1 is loading; tiny at p2 is failed', 'an engine that hangs or starts again')
  t.is(setup({ links: [...links, link('p3', [has('tiny', { state: 'available' })])] }).lacking, undefined)
})

test('a processor is found by its name, and the only one without it', (t) => {
  const [p1, p2] = [link('p1', []), link('p2', [])]
  t.is(setup({ links: [p1, p2] }).processor('p2'), p2)
  t.is(setup({ links: [p1] }).processor(undefined), p1)
  const refusals: [ProcessorLink[], string | undefined, string, string][] = [
    [[p1, p2], 'p3', 'NOT_FOUND', 'No processor named p3 is connected; connected: p1, p2'],
    [[], 'p3', 'NOT_FOUND', 'No processor named p3 is connected; connected: none'],
    [[], undefined, 'NO_PROCESSOR', 'No processor is connected'],
    [[p1, p2], undefined, 'BAD_REQUEST', 'This mesh has several processors: say which with --processor (p1, p2)'],
  ]
  for (const [links, name, code, message] of refusals) {
    const err = failure(() => setup({ links }).processor(name))
    t.is(err.code, code)
    t.is(err.message, message)
  }
})

test('a guest is no candidate for a model that was not approved for it, whatever it reports', (t) => {
  const links = [link('own', [has('tiny')]), link('guest', [has('tiny'), has('phi')])]
  const mayServe = (publicKey: string, name: string) => publicKey === 'key of own' || name === 'phi'
  const catalogue = setup({ models: [model('tiny'), model('phi')], links, mayServe })
  t.alike(
    catalogue.models().map(({ name, processors }) => [name, processors]),
    [
      ['phi', ['guest']],
      ['tiny', ['own']],
    ],
  )
})
