import { writeFileSync } from 'node:fs'
import test from 'brittle'
import DHT from 'hyperdht'
import { homeFiles, identityPath, makePrivateDir } from '../../lib/home/index.js'
import type { Role } from '../../lib/protocol/index.js'
import {
  adminKey,
  linked,
  ready,
  sleep,
  spawnNode,
  start,
  startAuth,
  startStranger,
  TestWorker,
  testHome,
  testOptions,
  until,
} from '../helpers/mesh.js'

/** Longer than it takes the others to close the links, and to call in vain a few times. */
const PAUSE_MS = 6000

test('workers that were paused are linked again within 2 s, in every order of keys, and refuse what was revoked', {
  timeout: 90_000,
}, async (t) => {
  const home = await testHome(t)
  const auth = await startAuth(t, home)
  const seeds = [1, 2, 3]
    .map((byte) => Buffer.alloc(32, byte))
    .sort((a, b) => Buffer.compare(DHT.keyPair(a).publicKey, DHT.keyPair(b).publicKey))
  const identify = (role: Role, name: string, seed = Buffer.alloc(32)): void => {
    const dir = homeFiles(home).worker(role, name)
    makePrivateDir(dir)
    writeFileSync(identityPath(dir), seed.toString('hex'), { mode: 0o600 })
  }
  // It dials the others: their keys are on both sides of its own.
  identify('processor', 'low', seeds[0])
  identify('metrics', 'watch', seeds[1])
  identify('processor', 'high', seeds[2])
  const watch = await start(t, new TestWorker('metrics', testOptions(home, 'watch')))
  const children = [
    { role: 'gateway', name: 'g1', args: ['worker.js', ['--wtype', 'gateway', '--rack', 'g1', '--data-dir', home]] },
    { role: 'processor', name: 'low', args: ['test/worker-child.js', ['processor', home, 'low']] },
    { role: 'processor', name: 'high', args: ['test/worker-child.js', ['processor', home, 'high']] },
  ] as const
  const env = { INFERMESH_LOG__LEVEL: 'silent', INFERMESH_HTTP__PORT: '0' }
  const spawned = children.map(({ args: [script, args] }) => spawnNode(t, script, [...args], env))
  const paused = await Promise.all(children.map(({ role, name }) => ready(home, role, name, undefined, 30_000)))
  for (const worker of paused) for (const from of [auth, watch]) await linked(from, worker)

  const key = adminKey(home)
  const admin = await startStranger(t, home, auth.publicKey)
  const url = paused[0]?.addresses.http
  const ask = async (text: string): Promise<number> =>
    (await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${text}` } })).status
  const revoked = await admin.call('keys.create', {}, { key })
  for (const text of [key, revoked.key]) await until(async () => (await ask(text)) === 200, 'the gateway checks keys')

  const send = (signal: NodeJS.Signals): void => {
    for (const { process } of spawned) process.kill(signal)
  }
  t.teardown(() => send('SIGCONT'), { order: -2 })
  send('SIGSTOP')
  const stoppedAt = performance.now()
  const began = performance.now()
  const answer = await admin.call('keys.revoke', { id: revoked.id }, { key })
  t.alike(
    { by: answer.confirmedBy, pending: answer.pending },
    { by: [], pending: ['g1'] },
    'the answer says who may not know',
  )
  t.ok(performance.now() - began < 4000, 'and does not wait for long')
  await sleep(PAUSE_MS - (performance.now() - stoppedAt))
  for (const from of [auth, watch]) t.is(paused.filter(({ publicKey }) => from.net.members.has(publicKey)).length, 0)

  // Sent before it wakes up: the first thing that it finds.
  const early = [ask(revoked.key), ask(key)]
  send('SIGCONT')
  const resumedAt = performance.now()
  const relinked = paused.flatMap((worker) =>
    [auth, watch].map(async (from) => {
      await linked(from, worker)
      return { worker: worker.name, from: from.name, ms: Math.round(performance.now() - resumedAt) }
    }),
  )
  t.alike(await Promise.all(early), [401, 200], 'a key that was revoked meanwhile is refused at once, another is not')
  for (const { worker, from, ms } of await Promise.all(relinked)) {
    // 2 s on a machine that has nothing else to do; it was 13.
    t.ok(ms < 6000, `${worker} and ${from}: linked after ${ms} ms`)
  }
  const again = await admin.call('keys.revoke', { id: revoked.id }, { key })
  t.alike(
    { by: again.confirmedBy, pending: again.pending },
    { by: ['g1'], pending: [] },
    'asked again, it has confirmed',
  )
})
