import test from 'brittle'
import { type Caller, type Hello, type Load, PROTOCOL_VERSION } from '../lib/protocol/index.js'
import { type BeatingLink, Heartbeats } from '../lib/worker-base/net/heartbeats.js'
import { until } from './helpers/wait.js'

const hello: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  version: '0',
  role: 'processor',
  name: 'p1',
  since: 0,
  addresses: {},
}
const load = (running = 0): Load => ({ state: 'ready', running, queued: 0, models: [] })

class FakeLink implements BeatingLink {
  readonly reports: Load[] = []
  readonly checks: number[] = []

  constructor(
    readonly hello: Hello | undefined,
    readonly role: Caller = hello?.role ?? 'client',
  ) {}

  report(told: Load): void {
    this.reports.push(told)
  }

  check(now: number): void {
    this.checks.push(now)
  }
}

test('a heartbeat goes to each member every 500 ms, however often the clock ticks', (t) => {
  const member = new FakeLink(hello)
  const client = new FakeLink(undefined)
  const heartbeats = new Heartbeats([member, client], () => load())
  const due: number[] = []
  for (let now = 1000; now <= 3000; now += 100) if (heartbeats.tick(now)) due.push(now)
  t.alike(due, [1000, 1500, 2000, 2500, 3000])
  t.is(member.reports.length, 5)
  t.is(client.reports.length, 0, 'reports are for members')
})

test('every link judges the silence of its other side at every tick', (t) => {
  const links = [new FakeLink(hello), new FakeLink(undefined)]
  const heartbeats = new Heartbeats(links, () => load())
  for (const now of [0, 100, 200]) heartbeats.tick(now)
  for (const { checks } of links) t.alike(checks, [0, 100, 200])
})

test('after a pause of this process one heartbeat goes out, not those it missed', (t) => {
  const member = new FakeLink(hello)
  const heartbeats = new Heartbeats([member], () => load())
  heartbeats.tick(0)
  heartbeats.tick(3_600_000)
  heartbeats.tick(3_600_100)
  t.is(member.reports.length, 2)
})

test('a stranger that says it is a member gets no load reports', (t) => {
  const stranger = new FakeLink(hello, 'client')
  const heartbeats = new Heartbeats([stranger], () => load())
  heartbeats.tick(0)
  heartbeats.tick(500)
  t.is(stranger.reports.length, 0)
  t.is(stranger.checks.length, 2, 'its silence counts all the same')
})

test('links that come and go between ticks are seen, and one that is closed by its check ends nothing', (t) => {
  const links = new Set<BeatingLink>()
  const heartbeats = new Heartbeats(links, () => load())
  heartbeats.tick(0)
  const second = new FakeLink(hello)
  const first: BeatingLink = { hello, role: 'processor', report() {}, check: () => links.delete(first) }
  links.add(first)
  links.add(second)
  heartbeats.tick(500)
  t.is(second.reports.length, 1)
  t.alike(second.checks, [500])
  t.is(links.size, 1)
})

test('several changes of load are told as one, with the load at that time, and none after the stop', async (t) => {
  const member = new FakeLink(hello)
  let running = 0
  const heartbeats = new Heartbeats([member], () => load(running))
  for (running = 1; running < 5; running++) heartbeats.loadChanged()
  await until(() => member.reports.length > 0, 'the change is told')
  t.alike(member.reports, [load(5)])
  heartbeats.loadChanged()
  heartbeats.stop()
  heartbeats.loadChanged()
  await new Promise((resolve) => setTimeout(resolve, 30))
  t.is(member.reports.length, 1)
})
