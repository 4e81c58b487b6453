import test from 'brittle'
import { type ErrorCode, type GenerateEvent, type InferenceInput, MeshError } from '../lib/protocol/index.js'
import { demandOf } from '../workers/gateway/requests/demand.js'
import { systemClock } from '../workers/gateway/requests/index.js'
import type { GenerationState } from '../workers/gateway/requests/state.js'
import { codeOf } from './helpers/wait.js'
import {
  EPOCH,
  finish,
  GONE,
  MODEL,
  QUEUE_MS,
  question,
  SILENCE,
  STALL_MS,
  setup,
  TestClock,
  TestProcessor,
  tokens,
} from './requests-kit.js'

/** A request's way through the gateway, every branch of it, without a network and in no time. */

const RETRIABLE: ErrorCode[] = ['LINK_CLOSED', 'ENGINE_FAILED', 'PROCESSOR_LOST', 'SHUTTING_DOWN', 'TIMEOUT']
const FINAL: ErrorCode[] = ['BAD_REQUEST', 'CONTEXT_LENGTH_EXCEEDED', 'MODEL_INVALID', 'SLOW_READER', 'INTERNAL']

const answers = (name: string) => new TestProcessor(name, [tokens(0, 'All ', 'well'), finish(2)])
const fails = (name: string, code: ErrorCode) => new TestProcessor(name, [MeshError[code]('it broke')])

async function failure(promise: Promise<unknown>): Promise<MeshError> {
  try {
    await promise
  } catch (err) {
    return MeshError.from(err)
  }
  throw new Error('did not fail')
}

const kinds = (events: readonly GenerateEvent[]) => events.map(({ type }) => type)

test('a generation is admitted, queued, placed, relayed and settled', async (t) => {
  const clock = new TestClock()
  const p1 = new TestProcessor('p1', [
    { type: 'queued', position: 3 },
    { type: 'started', processor: 'engine' },
    () => clock.pass(5),
    tokens(0, 'All ', 'is '),
    () => clock.pass(20),
    tokens(2, 'well'),
    finish(3, 'length'),
  ])
  const { generate, seen, told, requests } = setup({ processors: [p1], clock })
  const running: number[] = []
  const done = generate()
  running.push(requests.running)
  t.alike(await done, {
    reason: 'length',
    usage: { promptTokens: 7, cachedTokens: 3, completionTokens: 3 },
    timing: { queueMs: QUEUE_MS, firstTokenMs: QUEUE_MS + 5, totalMs: QUEUE_MS + 25 },
    route: { model: 'tiny', modelHash: 'ab12', quantisation: 'Q8_0', processor: 'p1', gateway: 'g1' },
  })
  running.push(requests.running)
  t.alike(running, [1, 0])
  t.alike(told, [
    { type: 'started', processor: 'p1' },
    { type: 'tokens', index: 0, ids: [100, 101], text: 'All is ' },
    { type: 'tokens', index: 2, ids: [102], text: 'well' },
  ])
  t.alike(seen.records, [
    {
      requestId: 'req_1',
      at: EPOCH,
      keyId: 'k1',
      user: 'ann',
      model: 'tiny',
      kind: 'chat',
      processor: 'p1',
      promptTokens: 7,
      cachedTokens: 3,
      completionTokens: 3,
      outcome: 'length',
      queueMs: QUEUE_MS,
      firstTokenMs: QUEUE_MS + 5,
      totalMs: QUEUE_MS + 25,
    },
  ])
  t.alike(seen.slots, [{ model: 'tiny', keyId: 'k1', front: false, avoid: [] }])
  t.alike(seen.released, [['p1', 10]], 'the slot is given back with what the request cost')
  t.alike(seen.settledTokens, [10], 'and so is the reservation')
  t.alike(seen.observed, ['admitted in 0 ms', 'routed least_loaded', 'settled chat length in 35 ms'])
  t.alike(seen.logged, ['request'])
  t.is(clock.timers, 0, 'nothing watches for a stall any more')
})

test('the finish is told only once the record is in the journal', async (t) => {
  const { generate, seen } = setup({ processors: [answers('p1')] })
  await generate().then(() => t.is(seen.records.length, 1))
})

test('a processor is asked for the model by its name, and for no more than the reservation has', async (t) => {
  const asked = async (input: Partial<InferenceInput>, maxTokens?: number) => {
    const p1 = answers('p1')
    await setup({ processors: [p1], maxTokens }).generate(input)
    return p1.asked[0]?.request
  }
  t.is((await asked({}))?.model, MODEL.name)
  t.is((await asked({}))?.maxTokens, undefined)
  t.is((await asked({ maxTokens: 20 }))?.maxTokens, 20)
  t.is((await asked({}, 12))?.maxTokens, 12)
  t.is((await asked({ maxTokens: 20 }, 12))?.maxTokens, 12)
})

test('what a request demands of the limits', (t) => {
  const chat = question({ maxTokens: 9 })
  t.alike(demandOf(chat), { promptTokens: 6, maxTokens: 9 })
  const { promptTokens } = demandOf(question({ tools: [{ name: 'look_up' }] }))
  t.ok(promptTokens > 6, 'tools are part of the prompt')
  const call = { id: 'c', name: 'look_up', arguments: '{"word":"fox"}' }
  const messages = [{ role: 'assistant' as const, content: 'Hi there', toolCalls: [call] }]
  t.ok(demandOf(question({ messages })).promptTokens > 6, 'and so are earlier calls')
  const ids = { kind: 'completion' as const, prompt: [1, 2, 3] }
  t.alike(demandOf({ ...question(), ...ids }), { promptTokens: 3, maxTokens: undefined })
  t.alike(demandOf({ input: ['four', [1, 2]] }), { promptTokens: 7, maxTokens: 0 })
})

test('what a takeover would need is in the state of a generation', async (t) => {
  const { generate, seen } = setup({
    maxTokens: 50,
    processors: [
      fails('p1', 'ENGINE_FAILED'),
      new TestProcessor('p2', [
        tokens(0, 'I ', 'look'),
        {
          type: 'tokens',
          index: 2,
          ids: [7],
          text: '',
          calls: [{ call: 0, id: 'c0', name: 'find', arguments: '{"a"' }],
        },
        { type: 'tokens', index: 3, ids: [8], text: '', calls: [{ call: 0, arguments: ':1}' }] },
        { type: 'tokens', index: 4, ids: [9], text: '', calls: [{ call: 1, arguments: '{' }] },
        MeshError.ENGINE_FAILED('it broke'),
      ]),
    ],
  })
  t.is((await failure(generate({ format: { type: 'json_object' } }))).code, 'ENGINE_FAILED')
  const [state] = seen.settled
  if (state === undefined || !isGeneration(state)) return t.fail('it is the state of a generation')
  t.alike(state.told, {
    ids: [100, 101, 7, 8, 9],
    textChars: 6,
    echo: { ids: 0, chars: 0 },
    calls: [
      { id: 'c0', name: 'find', arguments: '{"a":1}' },
      { id: '', name: '', arguments: '{' },
    ],
  })
  t.alike(state.request.format, { type: 'json_object' })
  t.is(state.request.maxTokens, 50)
  t.is(state.request.model, 'tiny')
  t.alike(state.usage, { promptTokens: 0, cachedTokens: 0, completionTokens: 5 })
  t.is(state.placements, 2)
  t.alike([...state.failed], ['key of p1'])
  t.is(state.processor, 'p2')
  t.ok(state.begun)
})

function isGeneration(state: object): state is GenerationState {
  return 'told' in state
}

// --- another processor ---

for (const code of RETRIABLE) {
  test(`${code} before the first token: another processor answers`, async (t) => {
    const [p1, p2] = [fails('p1', code), answers('p2')]
    const { generate, seen, told, clock } = setup({ processors: [p1, p2] })
    const { reason, route, timing } = await generate()
    t.is(reason, 'stop')
    t.is(route?.processor, 'p2')
    t.is(timing?.queueMs, 2 * QUEUE_MS, 'both waits count')
    t.alike(kinds(told), ['started', 'started', 'tokens'])
    t.alike(
      seen.slots.map(({ front, avoid }) => ({ front, avoid })),
      [
        { front: false, avoid: [] },
        { front: true, avoid: ['key of p1'] },
      ],
    )
    t.alike(seen.released, [
      ['p1', 0],
      ['p2', 9],
    ])
    t.alike(
      seen.records.map(({ processor, outcome }) => `${processor} ${outcome}`),
      ['p2 stop'],
      'one record, which names the processor that answered',
    )
    t.alike(seen.settledTokens, [9])
    t.alike(seen.observed, [
      'admitted in 0 ms',
      'routed least_loaded',
      'retried processor_failed',
      'routed retry',
      'settled chat stop in 20 ms',
    ])
    t.ok(seen.logged.includes('trying another processor'))
    t.is(p1.cancelled, 1)
    t.is(clock.timers, 0)
  })

  test(`${code} once a token was told: the caller is told, and nothing is tried again`, async (t) => {
    const p1 = new TestProcessor('p1', [tokens(0, 'All ', 'is '), MeshError[code]('it broke')])
    const { generate, seen, told } = setup({ processors: [p1, answers('p2')] })
    const expected = code === 'LINK_CLOSED' ? 'PROCESSOR_LOST' : code
    t.is((await failure(generate())).code, expected)
    t.is(seen.slots.length, 1)
    t.alike(kinds(told), ['started', 'tokens'])
    t.alike(seen.released, [['p1', 2]])
    t.alike(seen.settledTokens, [2], 'what was told is paid for')
    t.alike(
      seen.records.map(({ processor, outcome, completionTokens }) => [processor, outcome, completionTokens]),
      [['p1', expected, 2]],
    )
    t.alike(seen.observed.slice(2), [`settled chat ${expected} in ${QUEUE_MS} ms`])
  })
}

for (const code of FINAL) {
  test(`${code} is the request's own fault or the caller's: no other processor is asked`, async (t) => {
    const { generate, seen } = setup({ processors: [fails('p1', code), answers('p2')] })
    const err = await failure(generate())
    t.is(err.code, code)
    t.is(err.message, 'it broke')
    t.is(seen.slots.length, 1)
    t.is(seen.records[0]?.outcome, code)
    t.alike(seen.settledTokens, [0])
  })
}

test('a request that ended an engine is not tried on another, and its caller is told why', async (t) => {
  const poison = MeshError.ENGINE_ENDED('This request ended the engine that ran it. It is not tried on another')
  const { generate, seen } = setup({ processors: [new TestProcessor('p1', [poison]), answers('p2')] })
  const err = await failure(generate())
  t.is(err.code, 'ENGINE_ENDED')
  t.is(err.httpStatus, 422, 'a client library does not send it again by itself')
  t.is(seen.slots.length, 1)
  t.is(seen.records[0]?.outcome, 'ENGINE_ENDED')
})

test('a request that was one of several in an engine that ended is tried on one more engine at most', async (t) => {
  const suspected = (name: string) => new TestProcessor(name, [MeshError.ENGINE_FAILED('it broke', { suspect: true })])
  const innocent = setup({ processors: [suspected('p1'), answers('p2')] })
  t.is((await innocent.generate()).route?.processor, 'p2')
  t.alike(innocent.seen.slots[1]?.avoid, ['key of p1'])
  const { generate, seen } = setup({ processors: [suspected('p1'), fails('p2', 'LINK_CLOSED'), answers('p3')] })
  t.is((await generate()).route?.processor, 'p3', 'a processor that is lost says nothing of the request')
  t.is(seen.slots.length, 3)
  const poison = setup({ processors: [suspected('p1'), suspected('p2'), answers('p3')] })
  const err = await failure(poison.generate())
  t.is(err.code, 'ENGINE_ENDED')
  t.ok(err.message.includes('Two engines'), err.message)
  t.is(poison.seen.slots.length, 2)
})

test('what is no error of ours is told as INTERNAL', async (t) => {
  const p1 = new TestProcessor('p1', [
    () => {
      throw new TypeError('secret detail')
    },
  ])
  const { generate, seen } = setup({ processors: [p1, answers('p2')] })
  const err = await failure(generate())
  t.is(err.code, 'INTERNAL')
  t.absent(err.message.includes('secret'))
  t.is(seen.slots.length, 1)
})

test('a processor that says BUSY is no attempt: the request goes back to the front', async (t) => {
  const busy = ['p1', 'p2', 'p3', 'p1'].map((name) => fails(name, 'BUSY'))
  const { generate, seen } = setup({ processors: [...busy, answers('p2')] })
  t.is((await generate()).route?.processor, 'p2')
  t.alike(seen.bounced, ['p1', 'p2', 'p3', 'p1'])
  t.alike(seen.released, [['p2', 9]])
  t.alike(
    seen.slots.map(({ front, avoid }) => [front, avoid.length]),
    [
      [false, 0],
      [true, 0],
      [true, 0],
      [true, 0],
      [true, 0],
    ],
  )
  t.is(seen.observed.filter((what) => what === 'retried busy').length, 4)
  t.is(seen.records.length, 1)
})

test('BUSY once a token was told is a failure like another', async (t) => {
  const p1 = new TestProcessor('p1', [tokens(0, 'All '), MeshError.BUSY('full')])
  const { generate, seen } = setup({ processors: [p1, answers('p2')] })
  t.is(await codeOf(generate()), 'BUSY')
  t.alike(seen.bounced, ['p1'])
  t.is(seen.slots.length, 1)
})

test('three processors are tried, and no fourth', async (t) => {
  const { generate, seen } = setup({
    processors: [...['p1', 'p2', 'p3'].map((name) => fails(name, 'ENGINE_FAILED')), answers('p4')],
  })
  t.is(await codeOf(generate()), 'ENGINE_FAILED')
  t.alike(
    seen.slots.map(({ avoid }) => avoid),
    [[], ['key of p1'], ['key of p1', 'key of p2']],
  )
  t.is(seen.records[0]?.processor, 'p3')
  t.is(seen.observed.filter((what) => what === 'retried processor_failed').length, 2)
})

test('where no other processor is there, the queue says so', async (t) => {
  const { generate, seen } = setup({ processors: [fails('p1', 'ENGINE_FAILED')] })
  const err = await failure(generate())
  t.is(err.code, 'NO_PROCESSOR')
  t.is(seen.records[0]?.outcome, 'NO_PROCESSOR')
  t.is(seen.records[0]?.processor, 'p1', 'the record names who had it last')
})

test('a full queue is told, and recorded without a processor', async (t) => {
  const { generate, seen } = setup({ processors: [MeshError.QUEUE_FULL('100 requests wait', { retryAfterMs: 5000 })] })
  t.is((await failure(generate())).retryAfterMs, 5000)
  t.is(seen.records[0]?.outcome, 'QUEUE_FULL')
  t.is(seen.records[0]?.processor, undefined)
  t.alike(seen.settledTokens, [0])
})

test('a processor that goes away between its choice and the request is as one that failed', async (t) => {
  const { generate, seen } = setup({ processors: [GONE, answers('p2')] })
  t.is((await generate()).route?.processor, 'p2')
  t.alike(seen.slots[1]?.avoid, ['key of gone'])
  t.alike(seen.released[0], ['gone', 0])
})

test('a processor that fails in the moment it is asked is as one that fails later', async (t) => {
  const p1 = answers('p1')
  p1.refusal = MeshError.LINK_CLOSED('The link is closed')
  const { generate, told, clock } = setup({ processors: [p1, answers('p2')] })
  t.is((await generate()).route?.processor, 'p2')
  t.alike(kinds(told), ['started', 'tokens'], 'the first never started')
  t.is(clock.timers, 0)
  const long = answers('p1')
  long.refusal = MeshError.MESSAGE_TOO_LARGE('too long')
  t.is(await codeOf(setup({ processors: [long, answers('p2')] }).generate()), 'MESSAGE_TOO_LARGE')
})

test('the caller hears of a lost link whose it was: the processor’s', async (t) => {
  const p1 = new TestProcessor('p1', [tokens(0, 'All '), MeshError.LINK_CLOSED('The stream ended')])
  const { message, cause } = await failure(setup({ processors: [p1] }).generate())
  t.is(message, 'processor p1 was lost before the answer was complete')
  t.is(MeshError.from(cause).code, 'LINK_CLOSED')
})

// --- what a processor may not do ---

test('a processor that falls silent before the first token has lost the request', async (t) => {
  const { generate, clock, seen } = setup({ processors: [new TestProcessor('p1', [SILENCE]), answers('p2')] })
  const done = generate()
  await settled()
  clock.pass(STALL_MS - 1)
  await settled()
  t.is(seen.slots.length, 1, 'not before its time')
  clock.pass(1)
  t.is((await done).route?.processor, 'p2')
  t.is(seen.observed.filter((what) => what === 'retried processor_failed').length, 1)
})

test('a processor that falls silent in the midst of an answer is told as TIMEOUT, and is cancelled', async (t) => {
  const p1 = new TestProcessor('p1', [tokens(0, 'All '), SILENCE])
  const { generate, clock, seen } = setup({ processors: [p1, answers('p2')] })
  const done = failure(generate())
  await settled()
  clock.pass(STALL_MS)
  const { code, message } = await done
  t.is(code, 'TIMEOUT')
  t.is(message, `processor p1 sent nothing for ${STALL_MS} ms`)
  t.ok(p1.cancelled > 0)
  t.is(seen.slots.length, 1)
  t.is(clock.timers, 0)
})

test('every event begins the time of silence anew', async (t) => {
  const clock = new TestClock()
  const wait = () => clock.pass(STALL_MS - 1)
  const queued: GenerateEvent = { type: 'queued', position: 1 }
  const steps = [wait, tokens(0, 'a'), wait, queued, wait, tokens(1, 'b'), wait, tokens(2, 'c'), wait, finish(3)]
  const { generate } = setup({ processors: [new TestProcessor('p1', steps)], clock })
  t.is((await generate()).usage.completionTokens, 3)
  t.ok(clock.ms > 2 * STALL_MS)
})

test('a gap or a repeat in the tokens is a lost processor', async (t) => {
  const gap = new TestProcessor('p1', [tokens(1, 'is '), finish(2)])
  const before = setup({ processors: [gap, answers('p2')] })
  t.is((await before.generate()).route?.processor, 'p2', 'before the first token it is tried again')
  t.alike(kinds(before.told), ['started', 'started', 'tokens'], 'and the odd token is not told')
  for (const index of [1, 3]) {
    const p1 = new TestProcessor('p1', [tokens(0, 'All ', 'is '), tokens(index, 'well'), finish(3)])
    const { generate, told, seen } = setup({ processors: [p1, answers('p2')] })
    const { code, message } = await failure(generate())
    t.is(code, 'PROCESSOR_LOST')
    t.is(message, `processor p1 sent token ${index} where 2 was next; the answer is not complete`)
    t.alike(kinds(told), ['started', 'tokens'])
    t.is(seen.records[0]?.completionTokens, 2)
    t.is(p1.cancelled, 1)
  }
})

test('an answer that ends without a finish is a lost processor', async (t) => {
  const { code, message } = await failure(
    setup({ processors: [new TestProcessor('p1', [tokens(0, 'All ')])] }).generate(),
  )
  t.is(code, 'PROCESSOR_LOST')
  t.is(message, 'processor p1 ended the answer without a finish')
  const { generate } = setup({ processors: [new TestProcessor('p1'), answers('p2')] })
  t.is((await generate()).route?.processor, 'p2')
})

test('an answer without a token is an answer', async (t) => {
  const { generate, seen } = setup({ processors: [new TestProcessor('p1', [finish(0)])] })
  const { timing } = await generate()
  t.is(timing?.firstTokenMs, undefined)
  t.is(seen.records[0]?.firstTokenMs, undefined)
  t.alike(seen.settledTokens, [7])
})

test('text that comes without a token has begun the answer too', async (t) => {
  const p1 = new TestProcessor('p1', [{ type: 'tokens', index: 0, ids: [], text: 'x' }, MeshError.ENGINE_FAILED('')])
  const { generate, seen } = setup({ processors: [p1, answers('p2')] })
  t.is(await codeOf(generate()), 'ENGINE_FAILED')
  t.is(seen.slots.length, 1)
})

// --- cancelling ---

const AWAY = MeshError.CANCELLED('The caller went away')

test('a caller that goes away while it waits', async (t) => {
  const { generate, controller, faults, seen, told, requests } = setup({ processors: [AWAY] })
  faults.onQueue = ({ onPosition }) => {
    onPosition(2)
    onPosition(1)
    controller.abort(AWAY)
  }
  t.is(await codeOf(generate()), 'CANCELLED')
  t.alike(told, [
    { type: 'queued', position: 2 },
    { type: 'queued', position: 1 },
  ])
  t.alike(
    seen.records.map(({ outcome, processor }) => [outcome, processor]),
    [['CANCELLED', undefined]],
  )
  t.alike(seen.settledTokens, [0])
  t.is(requests.running, 0)
})

test('a caller that goes away before the first token, and while it reads', async (t) => {
  for (const first of [[], [tokens(0, 'All ')]]) {
    const p1 = new TestProcessor('p1', [...first, () => controller.abort(AWAY), SILENCE])
    const { generate, controller, seen, requests, clock } = setup({ processors: [p1, answers('p2')] })
    t.is((await failure(generate())).message, AWAY.message)
    t.ok(p1.cancelled > 0)
    t.alike(seen.released, [['p1', first.length]])
    t.is(seen.slots.length, 1, 'nobody else is asked')
    t.is(seen.records[0]?.outcome, 'CANCELLED')
    t.alike(seen.settledTokens, [first.length])
    t.is(requests.running, 0)
    t.is(clock.timers, 0)
  }
})

test('a request that ended by its caller’s deadline or sibling says so, whatever its processor made of it', async (t) => {
  const reasons: [unknown, ErrorCode][] = [
    [MeshError.TIMEOUT('not done in time'), 'TIMEOUT'],
    [MeshError.BUSY('a sibling failed'), 'BUSY'],
    [new Error('who knows'), 'CANCELLED'],
  ]
  for (const [reason, code] of reasons) {
    const p1 = new TestProcessor('p1', [() => controller.abort(reason), MeshError.ENGINE_FAILED('')])
    const { generate, controller, seen } = setup({ processors: [p1, answers('p2')] })
    t.is(await codeOf(generate()), code)
    t.is(seen.slots.length, 1)
  }
})

test('where nobody can be told any more, the processor is cancelled', async (t) => {
  const p1 = answers('p1')
  const { requests, context, seen } = setup({ processors: [p1, answers('p2')] })
  const slow = () => {
    throw MeshError.SLOW_READER('too much is waiting')
  }
  t.is(await codeOf(requests.generate(question(), context(), slow)), 'SLOW_READER')
  t.is(p1.cancelled, 1)
  t.is(seen.slots.length, 1)
  t.is(seen.records[0]?.outcome, 'SLOW_READER')
})

// --- what is not let in ---

test('a refusal is counted, and neither recorded nor queued', async (t) => {
  const refusals: [keyof Parameters<typeof refused>[0], MeshError, string][] = [
    ['limits', MeshError.RATE_LIMITED('too many'), 'tiny'],
    ['model', MeshError.MODEL_NOT_FOUND('no such model'), 'undefined'],
    ['disk', MeshError.DISK_FULL('no room'), 'undefined'],
  ]
  for (const [fault, err, model] of refusals) {
    const { way, code } = await refused({ [fault]: err })
    t.is(code, err.code)
    t.alike(way.seen.observed, [`refused chat ${model} ${err.code} in 0 ms`])
    t.alike(way.seen.records, [])
    t.alike(way.seen.slots, [])
    t.alike(way.seen.settledTokens, [])
    t.alike(way.seen.logged, ['request not served'])
    t.is(way.requests.running, 0)
    t.is((await failure(way.embed(['x']))).code, err.code, 'embeddings too')
  }
})

async function refused(faults: ReturnType<typeof setup>['faults']) {
  const way = setup({ processors: [answers('p1')] })
  Object.assign(way.faults, faults)
  return { way, code: await codeOf(way.generate()) }
}

test('a request id that runs already is refused, and may come again after', async (t) => {
  const { generate, seen, requests } = setup({ processors: [answers('p1'), answers('p1')] })
  const first = generate()
  t.is((await failure(generate())).message, 'The request id req_1 is in use')
  t.is(requests.running, 1, 'the first goes on')
  await first
  t.is(await codeOf(generate()), undefined)
  t.is(seen.records.length, 2)
})

test('draining refuses new requests and waits for those that run', async (t) => {
  let goOn = (): void => {}
  const paused = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const p1 = new TestProcessor('p1', [tokens(0, 'All '), () => paused, finish(1)])
  const { generate, requests, seen } = setup({ processors: [p1] })
  const running = generate()
  await settled()
  let drained = false
  const draining = requests.drain().then(() => {
    drained = true
  })
  t.is((await failure(generate({}, 'req_2'))).code, 'SHUTTING_DOWN')
  t.alike(seen.observed.at(-1), `refused chat undefined SHUTTING_DOWN in 0 ms`)
  t.absent(drained)
  goOn()
  t.is((await running).reason, 'stop')
  await draining
  t.ok(drained)
  await requests.drain()
  t.pass('with nothing running it is done at once')
})

// --- settlement ---

test('a record that cannot be written: the caller is not told that it finished', async (t) => {
  const { generate, faults, seen, requests } = setup({ processors: [answers('p1')] })
  faults.append = MeshError.DISK_FULL('no room')
  t.is(await codeOf(generate()), 'DISK_FULL')
  t.alike(
    seen.records.map(({ outcome }) => outcome),
    ['stop'],
    'the journal has it once',
  )
  t.alike(seen.settledTokens, [9], 'settled once, with what was used')
  t.alike(seen.released, [['p1', 9]])
  t.is(seen.observed.at(-1), 'settled chat DISK_FULL in 10 ms')
  t.alike(seen.logged, ['request not served'])
  t.is(requests.running, 0)
})

test('a log that cannot be written keeps nothing of what was reserved', async (t) => {
  const { generate, faults, seen, requests } = setup({ processors: [answers('p1')] })
  faults.log = new Error('ENOSPC')
  await generate().catch(() => {})
  t.alike([...new Set(seen.settledTokens)], [9], 'settled, with what was used')
  t.is(requests.running, 0)
  t.is(seen.records.length, 1)
})

test('a failure whose record cannot be written is told as what it was', async (t) => {
  const { generate, faults, seen } = setup({ processors: [fails('p1', 'BAD_REQUEST')] })
  faults.append = MeshError.DISK_FULL('no room')
  t.is(await codeOf(generate()), 'BAD_REQUEST')
  t.is(seen.records.length, 1)
  t.alike(seen.settledTokens, [0])
})

// --- embeddings ---

test('texts are embedded in batches that a message can carry, and come back in their order', async (t) => {
  const p1 = new TestProcessor('p1')
  const { embed, seen } = setup({ processors: [p1] })
  const input = Array.from({ length: 70 }, (_, i) => 'x'.repeat(i + 1))
  const { embeddings, usage, route, requestId, model } = await embed(input)
  t.alike(
    p1.embedded.map(({ length }) => length),
    [32, 32, 6],
  )
  t.alike(
    embeddings.map(([size]) => size),
    input.map(({ length }) => length),
  )
  t.alike(usage, { promptTokens: 70, cachedTokens: 0, completionTokens: 0 })
  t.alike([route?.processor, requestId, model], ['p1', 'req_1', 'tiny'])
  t.alike(
    seen.records.map(({ kind, outcome, promptTokens, firstTokenMs }) => [kind, outcome, promptTokens, firstTokenMs]),
    [['embedding', 'stop', 70, undefined]],
  )
  t.alike(seen.settledTokens, [70])
  t.alike(seen.released, [['p1', 70]])
  t.alike(seen.observed, ['admitted in 0 ms', 'routed least_loaded', 'settled embedding stop in 10 ms'])
})

test('long texts make smaller batches, and one that is longer than a batch goes alone', async (t) => {
  const p1 = new TestProcessor('p1')
  const half = 'x'.repeat(512 * 1024)
  await setup({ processors: [p1] }).embed([half, half, 'x', 'y', half + half + half, 'x', 'y'])
  t.alike(
    p1.embedded.map((batch) => batch.map(({ length }) => length)),
    [[half.length, half.length], [1, 1], [3 * half.length], [1, 1]],
  )
})

test('embeddings that a processor fails in the midst of are made anew by another', async (t) => {
  const [p1, p2] = [new TestProcessor('p1'), new TestProcessor('p2')]
  p1.embedFailures.push(undefined, MeshError.LINK_CLOSED('gone'))
  const { embed, seen, told } = setup({ processors: [p1, p2] })
  const { embeddings, usage, route } = await embed(Array.from({ length: 40 }, () => 'x'))
  t.is(embeddings.length, 40)
  t.is(usage.promptTokens, 40, 'counted once')
  t.is(route?.processor, 'p2')
  t.is(p2.embedded.length, 2)
  t.is(seen.records[0]?.promptTokens, 40)
  t.alike(told, [])
})

test('embeddings that fail or are cancelled are recorded with what they used', async (t) => {
  const p1 = new TestProcessor('p1')
  p1.embedFailures.push(undefined, MeshError.BAD_REQUEST('too long'))
  const wrong = setup({ processors: [p1] })
  t.is(await codeOf(wrong.embed(Array.from({ length: 40 }, () => 'x'))), 'BAD_REQUEST')
  t.is(wrong.seen.records[0]?.promptTokens, 32)
  t.alike(wrong.seen.settledTokens, [32])
  const p2 = new TestProcessor('p2')
  p2.embedFailures.push(MeshError.CANCELLED('processor.embed was cancelled'))
  const gone = setup({ processors: [p2] })
  gone.faults.onQueue = () => gone.controller.abort(MeshError.TIMEOUT('not done in time'))
  t.is(await codeOf(gone.embed(['x'])), 'TIMEOUT')
  t.is(gone.seen.records[0]?.outcome, 'TIMEOUT')
})

test('embeddings wait without being told their place', async (t) => {
  const { embed, faults, told } = setup({ processors: [new TestProcessor('p1')] })
  faults.onQueue = ({ onPosition }) => onPosition(1)
  await embed(['x'])
  t.alike(told, [])
})

// --- the clock that is used outside of tests ---

test('the system’s clock tells dates, durations, and when a time is over', async (t) => {
  t.ok(Math.abs(systemClock.date() - Date.now()) < 1000)
  t.ok(systemClock.now() <= performance.now())
  let rang = 0
  const stopped = systemClock.timer(1, () => rang++)
  stopped.stop()
  await new Promise<void>((resolve) => {
    const timer = systemClock.timer(5, () => {
      rang += 10
      resolve()
    })
    timer.restart()
  })
  t.is(rang, 10)
})

/** Resolves once what can go on has gone on. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

test('a request that has something to be compiled is its user’s only one until its first token', async (t) => {
  const tool = { name: 'f', description: '', parameters: { type: 'object' } }
  const cases: [Partial<InferenceInput>, string | undefined][] = [
    [{}, undefined],
    [{ format: { type: 'json_object' } }, undefined],
    [{ tools: [] }, undefined],
    [{ tools: [tool] }, 'ann'],
    [{ format: { type: 'json_schema', schema: {} } }, 'ann'],
    [{ format: { type: 'grammar', grammar: 'root ::= "a"' } }, 'ann'],
  ]
  for (const [input, user] of cases) {
    const { generate, seen } = setup({
      processors: [new TestProcessor('p1', [() => t.alike(seen.begun, []), tokens(0, 'a'), finish(1)])],
    })
    await generate(input)
    t.is(seen.prepared[0], user, JSON.stringify(input))
    t.alike(seen.begun.slice(0, 1), ['p1'])
  }
  const { embed, seen } = setup({ processors: [new TestProcessor('p1')] })
  await embed(['a'])
  t.is(seen.prepared[0], undefined)
})
