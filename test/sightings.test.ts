import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { pino } from 'pino'
import { Sightings } from '../workers/auth/sightings.js'

async function make(t: Test, workerDir?: string) {
  const clock = { now: 1_000_000 }
  const known = new Set(['a', 'b', 'k1', 'k2'])
  const dir = workerDir ?? (await t.tmp())
  const is = (id: string) => known.has(id)
  const log = pino({ enabled: false })
  const open = () => new Sightings({ workerDir: dir, now: () => clock.now, isMember: is, isKey: is, log })
  return { clock, known, dir, path: join(dir, 'sightings.json'), open, sightings: open() }
}

test('who was seen is known after a restart, and whoever was removed is forgotten', async (t) => {
  const { clock, known, path, open, sightings } = await make(t)
  sightings.sawMember('a')
  clock.now += 5
  sightings.sawMember('b')
  sightings.sawKey('k1', { address: '192.168.1.9', gateway: 'g1' })
  known.delete('b')
  sightings.save()
  t.is(statSync(path).mode & 0o777, 0o600)

  const again = open()
  t.is(again.memberSeenAt('a'), 1_000_000)
  t.is(again.memberSeenAt('b'), undefined)
  t.alike(again.lastUse('k1'), { at: 1_000_005, address: '192.168.1.9', gateway: 'g1' })
  t.is(again.lastUse('k2'), undefined)
})

test('it is written once a minute, whatever the clock does, and at once where asked', async (t) => {
  const { clock, path, sightings } = await make(t)
  const written = () => JSON.parse(readFileSync(path, 'utf8')).members.a
  sightings.sawMember('a')
  sightings.save()
  clock.now += 59_000
  sightings.sawMember('a')
  sightings.save()
  t.is(written(), 1_000_000)
  clock.now += 1000
  sightings.save()
  t.is(written(), 1_059_000)
  clock.now -= 3_600_000
  sightings.sawMember('a')
  sightings.save()
  t.is(written(), clock.now, 'an hour back')
  sightings.sawKey('k1', { address: '::1', gateway: 'g' })
  sightings.save({ atOnce: true })
  t.is(JSON.parse(readFileSync(path, 'utf8')).keys.k1.address, '::1')
})

test('a file that holds something else, or cannot be written, costs nothing else', async (t) => {
  const { path, dir } = await make(t)
  writeFileSync(path, '{"members":7}')
  const { sightings } = await make(t, dir)
  t.is(sightings.memberSeenAt('a'), undefined)
  sightings.sawMember('a')
  const nowhere = await make(t, join(dir, 'not there'))
  nowhere.sightings.sawMember('a')
  nowhere.sightings.save()
  t.is(nowhere.sightings.memberSeenAt('a'), 1_000_000)
})
