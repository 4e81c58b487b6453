import test from 'brittle'
import { Freshness } from '../workers/gateway/freshness.js'

/** Freshness with both clocks in the test's hands. */
function setUp() {
  const clock = { now: 1000, wall: 1_700_000_000_000, asked: 0 }
  const freshness = new Freshness({
    ask: () => clock.asked++,
    now: () => clock.now,
    wallClock: () => clock.wall,
  })
  const pass = (ms: number): void => {
    clock.now += ms
    clock.wall += ms
  }
  return { clock, freshness, pass }
}

async function isSettled(promise: Promise<void> | undefined): Promise<boolean> {
  return (await Promise.race([promise ?? 'now', Promise.resolve('waits')])) !== 'waits'
}

test('a gateway that starts checks keys once the authority has been asked', async (t) => {
  const { freshness } = setUp()
  t.teardown(() => freshness.stop())
  const waiting = freshness.settled()
  t.ok(waiting)
  t.absent(await isSettled(waiting))
  freshness.confirm(freshness.doubt)
  await waiting
  t.is(freshness.settled(), undefined)
})

test('after a pause the authority is asked again, and an answer from before counts for nothing', async (t) => {
  const { clock, freshness, pass } = setUp()
  t.teardown(() => freshness.stop())
  const before = freshness.doubt
  freshness.confirm(before)
  pass(1400)
  t.is(freshness.settled(), undefined, 'a short pause is none')
  t.is(clock.asked, 0)

  pass(1600)
  t.ok(freshness.settled(), 'a request is the first to notice')
  t.is(clock.asked, 1)
  freshness.confirm(before)
  t.ok(freshness.settled())

  const during = freshness.doubt
  pass(60_000)
  freshness.confirm(during)
  t.ok(freshness.settled(), 'an answer is the first to notice the next pause')
  t.is(clock.asked, 2)
  freshness.confirm(freshness.doubt)
  t.is(freshness.settled(), undefined)
})

test('a machine that slept is noticed by the clock on the wall, and one that is set back harms nothing', (t) => {
  const { clock, freshness } = setUp()
  t.teardown(() => freshness.stop())
  freshness.confirm(freshness.doubt)
  clock.wall += 3_600_000
  t.ok(freshness.settled())
  freshness.confirm(freshness.doubt)
  clock.wall -= 7_200_000
  t.is(freshness.settled(), undefined)
})

test('where the authority does not answer, the gateway goes on with what it knows after 3 s', async (t) => {
  const { freshness, pass } = setUp()
  t.teardown(() => freshness.stop())
  freshness.confirm(freshness.doubt)
  pass(10_000)
  const began = performance.now()
  await freshness.settled()
  const waitedMs = performance.now() - began
  t.ok(waitedMs > 2900 && waitedMs < 6000, `${Math.round(waitedMs)} ms`)
})
