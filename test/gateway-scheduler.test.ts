import test from 'brittle'
import type { MeshError } from '../lib/protocol/index.js'
import { type Candidate, Scheduler, type Slot } from '../workers/gateway/requests/scheduler.js'

function setup(candidates: Candidate[], queueLimit = 100) {
  const state = { now: 0, candidates }
  const scheduler = new Scheduler({
    candidates: () => state.candidates,
    queueLimit,
    clock: () => state.now,
    random: () => 0.9,
  })
  const ask = (keyId: string, options: Partial<Parameters<Scheduler['acquire']>[0]> = {}): Promise<Slot> =>
    scheduler.acquire({
      model: 'm',
      keyId,
      avoid: new Set(),
      front: false,
      signal: new AbortController().signal,
      onPosition: () => {},
      ...options,
    })
  return { state, scheduler, ask }
}

const processor = (id: string, slots: number, loaded = true): Candidate => ({ id, slots, loaded })

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (err) {
    return (err as MeshError).code
  }
  return 'OK'
}

test('the least loaded processor is chosen, in proportion to its slots', async (t) => {
  const { ask } = setup([processor('small', 1), processor('large', 3)])
  const chosen = []
  for (let i = 0; i < 4; i++) chosen.push((await ask('k')).processor)
  t.alike(chosen.sort(), ['large', 'large', 'large', 'small'])
})

test('a processor that has the model loaded comes before one that would have to load it', async (t) => {
  const { ask } = setup([processor('cold', 4, false), processor('warm', 2)])
  t.is((await ask('k')).processor, 'warm')
  t.is((await ask('k')).processor, 'warm')
  t.is((await ask('k')).processor, 'cold')
})

test('requests of one key are served in order, and a freed slot goes to the next', async (t) => {
  const { ask } = setup([processor('p', 1)])
  const order: string[] = []
  const first = await ask('k')
  const second = ask('k').then((ticket) => {
    order.push('second')
    ticket.release(1)
  })
  const third = ask('k').then((ticket) => {
    order.push('third')
    ticket.release(1)
  })
  first.release(1)
  await Promise.all([second, third])
  t.alike(order, ['second', 'third'])
})

test('a key that sent a hundred requests does not keep another key waiting behind them', async (t) => {
  const { ask } = setup([processor('p', 1)])
  const running = await ask('greedy')
  const order: string[] = []
  const serve = (key: string) =>
    ask(key).then((ticket) => {
      order.push(key)
      ticket.release(100)
    })
  const all = Array.from({ length: 20 }, () => serve('greedy'))
  all.push(serve('modest'))
  running.release(100)
  await Promise.all(all)
  t.is(order.indexOf('modest'), 0, 'the key that was served less goes first')
})

test('past its bound the queue refuses at once and says when to try again', async (t) => {
  const { ask } = setup([processor('p', 1)], 2)
  await ask('k')
  void ask('k').catch(() => {})
  void ask('k').catch(() => {})
  try {
    await ask('k')
    t.fail('was queued')
  } catch (err) {
    t.is((err as MeshError).code, 'QUEUE_FULL')
    t.ok(((err as MeshError).retryAfterMs ?? 0) >= 1000)
  }
})

test('a model that no processor has is refused at once, also for those that already wait', async (t) => {
  const { state, scheduler, ask } = setup([processor('p', 1)])
  const ticket = await ask('k')
  const waiting = codeOf(ask('k'))
  state.candidates = []
  scheduler.dispatch()
  t.is(await waiting, 'NO_PROCESSOR')
  t.is(await codeOf(ask('k')), 'NO_PROCESSOR')
  ticket.release(1)
})

test('a processor that says it is full gets nothing until its next report', async (t) => {
  const { scheduler, ask } = setup([processor('p', 2)])
  const ticket = await ask('k')
  ticket.bounce()
  let served = false
  const again = ask('k', { front: true }).then((got) => {
    served = true
    return got
  })
  await Promise.resolve()
  t.absent(served)
  scheduler.reported('p')
  t.is((await again).processor, 'p')
})

test('who gives up leaves the queue, and those behind learn their new place', async (t) => {
  const { state, ask } = setup([processor('p', 1)])
  await ask('k')
  const controller = new AbortController()
  const positions: number[] = []
  const gone = codeOf(ask('k', { signal: controller.signal }))
  void ask('k', { onPosition: (position) => positions.push(position) })
  state.now += 1000
  controller.abort()
  t.is(await gone, 'CANCELLED')
  t.alike(positions, [2, 1])
})

test('a request that a processor failed goes to another one, ahead of the queue', async (t) => {
  const { ask } = setup([processor('a', 1), processor('b', 1)])
  const first = await ask('k')
  const other = await ask('k')
  const order: string[] = []
  const later = ask('k').then(() => order.push('later'))
  const retry = ask('k', { front: true, avoid: new Set([first.processor]) }).then((ticket) => {
    order.push(`retry on ${ticket.processor}`)
  })
  other.release(1)
  await retry
  first.release(1)
  await later
  t.alike(order, [`retry on ${other.processor}`, 'later'])
})

test('a slot that is given back twice counts once', async (t) => {
  const { ask } = setup([processor('p', 1)])
  const ticket = await ask('k')
  ticket.release(1)
  ticket.release(1)
  await ask('k')
  let second = false
  void ask('k').then(() => (second = true))
  await Promise.resolve()
  t.absent(second)
})
