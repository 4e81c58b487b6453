import { setMaxListeners } from 'node:events'
import test from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { Scheduler } from '../workers/gateway/requests/scheduler.js'
import type { Candidate, Slot } from '../workers/gateway/requests/slot.js'

function setup(candidates: Candidate[], queueLimit = 100) {
  const state = { now: 0, candidates, looks: 0 }
  const scheduler = new Scheduler({
    candidates: () => {
      state.looks++
      return state.candidates
    },
    queueLimit,
    clock: () => state.now,
    random: () => 0.9,
  })
  const ask = (keyId: string, options: Partial<Parameters<Scheduler['acquire']>[0]> = {}): Promise<Slot> =>
    scheduler.acquire({
      model: 'm',
      keyId,
      user: keyId,
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

test('one user cannot fill the queue: its share is a quarter, and at least 16', async (t) => {
  const shares: [queueLimit: number, share: number][] = [
    [100, 25],
    [20, 16],
  ]
  for (const [queueLimit, share] of shares) {
    const { ask } = setup([processor('p', 1)], queueLimit)
    await ask('other')
    const gone = new AbortController()
    void ask('k0', { user: 'greedy', signal: gone.signal }).catch(() => {})
    for (let i = 1; i < share; i++) void ask(`k${i}`, { user: 'greedy' })
    const words = new RegExp(
      `greedy has ${share} requests waiting for m; one user may have ${share} of the ${queueLimit}`,
    )
    await t.exception(ask('k', { user: 'greedy' }), words)
    t.is(await codeOf(ask('k', { user: 'greedy' })), 'RATE_LIMITED')
    void ask('modest')
    void ask('k', { user: 'greedy', front: true })
    gone.abort()
    await Promise.resolve()
    t.is(await codeOf(ask('k', { user: 'greedy' })), 'RATE_LIMITED', 'what was taken up before is in, and counts')
  }
})

test('those who were taken up before go first, and among keys that were served alike the oldest', async (t) => {
  const { ask } = setup([processor('p', 1)])
  const running = await ask('x')
  const order: string[] = []
  const serve = (name: string, key: string, front = false) =>
    ask(key, { front }).then((slot) => {
      order.push(name)
      slot.release(0)
    })
  const all = [serve('b1', 'b'), serve('a1', 'a'), serve('b2', 'b'), serve('f1', 'a', true), serve('f2', 'b', true)]
  running.release(0)
  await Promise.all(all)
  t.alike(order, ['f2', 'f1', 'b1', 'a1', 'b2'])
})

test('places in a long queue are told to 200 a second in all, to each at most every 500 ms, and are right', async (t) => {
  const { state, scheduler, ask } = setup([processor('p', 1)], 4096)
  await ask('k')
  const told: { position: number; at: number }[][] = []
  const controllers = Array.from({ length: 300 }, (_, i) => {
    const gone = new AbortController()
    const mine: { position: number; at: number }[] = []
    told.push(mine)
    const onPosition = (position: number) => void mine.push({ position, at: state.now })
    void ask(`k${i}`, { signal: gone.signal, onPosition }).catch(() => {})
    return gone
  })
  t.alike(
    told.map(([first]) => first?.position),
    Array.from({ length: 300 }, (_, i) => i + 1),
    'at once when it joins',
  )
  for (let i = 0; i < 10; i++) controllers[i]?.abort()
  const tellings = () => told.reduce((sum, mine) => sum + mine.length, 0)
  const before = tellings()
  for (let i = 0; i < 40; i++) {
    state.now += 100
    scheduler.dispatch()
    t.ok(tellings() - before <= state.now / 5)
  }
  t.alike(
    told.slice(10).map((mine) => mine.at(-1)?.position),
    Array.from({ length: 290 }, (_, i) => i + 1),
  )
  t.ok(told.every((mine) => mine.every(({ at }, i) => i === 0 || at - (mine[i - 1]?.at ?? 0) >= 500)))
})

test('one who cannot be told its place leaves, and nobody else notices', async (t) => {
  const { scheduler, ask } = setup([processor('p', 1)])
  const running = await ask('k')
  const onPosition = () => {
    throw MeshError.SLOW_READER('too slow')
  }
  t.is(await codeOf(ask('k', { onPosition })), 'SLOW_READER')
  const next = ask('k')
  t.is(scheduler.waiting, 1)
  running.release(1)
  t.is((await next).processor, 'p')
})

test('what a request costs does not grow with the queue', async (t) => {
  /** Fills a queue from three keys, serves 64 and has 128 leave at once. @returns how often it looked, and ms for each request */
  const work = async (waiting: number) => {
    const { state, ask } = setup([processor('p', 1)], 8192)
    let told = 0
    const count = { onPosition: () => void told++ }
    let running = await ask('k')
    const gone = new AbortController()
    setMaxListeners(0, gone.signal)
    const startedAt = performance.now()
    let served: Slot | undefined
    const notice = (slot: Slot) => {
      served = slot
    }
    for (let i = 0; i < waiting; i++) {
      const signal = i < 128 ? { signal: gone.signal } : {}
      ask(`k${i % 3}`, { ...count, ...signal, user: `${i % 9}` }).then(notice, () => {})
      state.now += 1
    }
    for (let i = 0; i < 64; i++) {
      running.release(1)
      await Promise.resolve()
      await Promise.resolve()
      running = served ?? running
    }
    gone.abort()
    const ms = performance.now() - startedAt
    await Promise.resolve()
    return { looks: state.looks - waiting - 64, told, each: ms / waiting }
  }
  const best = async (waiting: number) => {
    const runs = []
    for (let i = 0; i < 5; i++) runs.push(await work(waiting))
    return runs.reduce((a, b) => (b.each < a.each ? b : a))
  }
  await best(256)
  const [few, many] = [await best(256), await best(4096)]
  t.ok(many.looks <= few.looks && many.looks <= 1, `candidates are looked at once for each: ${many.looks} more`)
  t.ok(many.told <= 4096 * 1.3, `${many.told} places told`)
  t.ok(
    many.each < 4 * few.each,
    `${(many.each * 1000).toFixed(1)} µs each of 4096, ${(few.each * 1000).toFixed(1)} of 256`,
  )
})

test('a key whose requests hold slots and give nothing has no more turns than one that is answered', async (t) => {
  const { state, ask } = setup([processor('p', 1)])
  const running = await ask('idle')
  const order: string[] = []
  const serve = (key: string, heldMs: number, tokens: number) =>
    ask(key).then((slot) => {
      order.push(key)
      state.now += heldMs
      slot.release(tokens)
    })
  const all = Array.from({ length: 10 }, () => [serve('idle', 2000, 0), serve('busy', 500, 100)]).flat()
  state.now += 2000
  running.release(0)
  await Promise.all(all)
  t.alike(order.slice(0, 4), ['busy', 'idle', 'busy', 'idle'], 'two seconds of a slot are worth a hundred tokens')
  // What ends at once costs a turn.
  const short = setup([processor('p', 1)])
  const first = await short.ask('idle')
  const served: string[] = []
  const turn = (key: string, tokens: number) =>
    short.ask(key).then((slot) => {
      served.push(key)
      slot.release(tokens)
    })
  const turns = [...Array.from({ length: 9 }, () => turn('idle', 0)), turn('busy', 5), turn('busy', 5)]
  first.release(0)
  await Promise.all(turns)
  t.ok(served.lastIndexOf('busy') < 8, served.join(' '))
})

test('of one user’s requests that are prepared at length, one at a time is placed at each processor', async (t) => {
  const { ask } = setup([processor('a', 6), processor('b', 6)])
  const placed: Slot[] = []
  const hostile = Array.from({ length: 4 }, (_, i) =>
    ask(`mallory ${i}`, { preparedFor: 'mallory' }).then((slot) => placed.push(slot)),
  )
  await Promise.resolve()
  t.alike(placed.map((slot) => slot.processor).sort(), ['a', 'b'])
  t.is((await ask('bob')).queueMs, 0, 'others have their slots at once')
  await ask('carol', { preparedFor: 'carol' })
  await ask('mallory 1')
  placed[0]?.begun()
  await hostile[2]
  t.is(placed[2]?.processor, placed[0]?.processor, 'the next, with the first token of the one before')
  placed[0]?.begun()
  placed[0]?.release(1)
  await Promise.resolve()
  t.is(placed.length, 3, 'which is over once')
  placed[1]?.release(0)
  await hostile[3]
  t.is(placed[3]?.processor, placed[1]?.processor, 'or with its end')
})
