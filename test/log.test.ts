import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'brittle'
import { homeFiles, LogFile, olderLog } from '../lib/home/index.js'
import { openLog } from '../lib/worker-base/log.js'
import { Sample, sampled } from '../lib/worker-base/sample.js'
import { testUnless } from './helpers/needs.js'
import { CLI, cliEnv, spawnProgram } from './helpers/process.js'
import { NO_SMALL_DISK, SmallDisk } from './helpers/small-disk.js'
import { until } from './helpers/wait.js'

const missing = existsSync('/dev/full') ? undefined : 'there is no /dev/full here'

const small = SmallDisk.make('128k')

testUnless(missing, 'a log on a full disk loses its lines, and ends nothing', {}, async (t) => {
  const options = { level: 'info', role: 'gateway', name: 'g1', terminal: false } as const
  const log = await openLog({ ...options, file: '/dev/full' })
  for (let i = 0; i < 3; i++) log.info({ i }, 'a line')
  t.pass('nothing was thrown')
})

test('a log is JSON lines, without what is secret', async (t) => {
  const file = join(await t.tmp(), 'logs', 'x.log')
  const log = await openLog({ level: 'info', role: 'gateway', name: 'g1', file, terminal: false })
  const headers = { authorization: 'Bearer im_x', 'x-api-key': 'im_x', 'api-key': 'im_x' }
  log.info({ key: 'im_x', nested: { password: 'p' }, headers, ...headers }, 'a line')
  log.debug('not told')
  const [line, ...rest] = readFileSync(file, 'utf8').trim().split('\n')
  t.alike(rest, [])
  const told: unknown = JSON.parse(line ?? '')
  t.ok(typeof told === 'object' && told !== null && 'msg' in told && told.msg === 'a line')
  t.absent(/im_x|"p"/.test(line ?? ''))
})

test('a log is put aside before it grows too long, and so many of them are kept', async (t) => {
  const path = join(await t.tmp(), 'logs', 'x.log')
  const log = new LogFile(path, { maxBytes: 100, kept: 2 })
  t.teardown(() => log.close())
  const line = (i: number) => `${String(i).padStart(39, '0')}\n`
  for (let i = 0; i < 9; i++) t.ok(log.write(line(i)))
  t.is(readFileSync(path, 'utf8'), line(8))
  t.is(readFileSync(olderLog(path, 1), 'utf8'), line(6) + line(7))
  t.is(readFileSync(olderLog(path, 2), 'utf8'), line(4) + line(5))
  t.alike(readdirSync(dirname(path)).sort(), ['x.log', 'x.log.1', 'x.log.2'])
  t.ok(log.write('long'.repeat(100)), 'a line longer than a log has one of its own')
  const again = new LogFile(path, { maxBytes: 100, kept: 2 })
  t.teardown(() => again.close())
  t.ok(again.write(line(9)), 'one that goes on with the file knows how long it is')
  t.is(readFileSync(path, 'utf8'), line(9))
})

test('a log is put aside when it is old, however short', async (t) => {
  const path = join(await t.tmp(), 'x.log')
  let now = Date.now()
  const log = new LogFile(path, { maxAgeMs: 1000, now: () => now })
  t.teardown(() => log.close())
  log.write('a\n')
  now += 900
  log.write('b\n')
  now += 5000
  log.write('c\n')
  t.is(readFileSync(path, 'utf8'), 'c\n')
  t.is(readFileSync(olderLog(path, 1), 'utf8'), 'a\nb\n')
})

testUnless(
  small === undefined ? NO_SMALL_DISK : undefined,
  'a log has whole lines on a disk that is full for a while, and says what is missing',
  {},
  async (t) => {
    if (small === undefined) return
    const file = join(small.dir, 'logs', 'x.log')
    const log = await openLog({ level: 'info', role: 'gateway', name: 'g1', file, terminal: false })
    log.info('before')
    small.fill()
    for (let i = 0; i < 500; i++) log.info({ i }, 'meanwhile')
    small.free()
    log.info('after')
    const told = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { msg: string; lines?: number })
    const kept = told.filter(({ msg }) => msg === 'meanwhile').length
    t.alike([told[0]?.msg, told.at(-2)?.msg], ['before', 'after'])
    t.ok(kept < 500)
    t.is(told.at(-1)?.lines, 500 - kept)
  },
)

test('of what can be caused as often as one likes a log has the first lines, and a count', (t) => {
  const lines: string[] = []
  const write = (facts: object, message: string) => void lines.push(`${JSON.stringify(facts)} ${message}`)
  const log = sampled({ info: write, warn: write })
  for (let i = 0; i < 100; i++) log.info({ code: 'RATE_LIMITED', i }, 'request not served')
  log.info({ code: 'DISK_FULL' }, 'request not served')
  log.warn({ code: 'DISK_FULL' }, 'trying another processor')
  t.is(lines.length, 12)

  const rests: unknown[] = []
  const sample = new Sample((rest) => rests.push(rest))
  for (let i = 0; i < 25; i++) t.is(sample.take('BUSY', 'x'), i < 10)
  sample.take('TIMEOUT', 'x')
  sample.endMinute()
  t.alike(rests, [{ code: 'BUSY', message: 'x', count: 15 }])
  t.ok(sample.take('BUSY', 'x'), 'the next minute begins anew')
  sample.endMinute()
})

test('who follows a log that is put aside misses no line and sees none twice', async (t) => {
  const home = await t.tmp()
  const log = new LogFile(homeFiles(home).log('gateway', 'g1'), { maxBytes: 1000, kept: 3 })
  t.teardown(() => log.close())
  const line = (i: number) => JSON.stringify({ level: 30, time: i, role: 'gateway', worker: 'g1', msg: `line ${i}` })
  let written = 0
  const write = (count: number) => {
    for (const end = written + count; written < end; written++) log.write(`${line(written)}\n`)
  }
  write(20)
  const shown = spawnProgram(t, [process.execPath, CLI, 'logs', '--follow', '--json', '-n', '18'], {
    env: cliEnv(home),
  })
  const lines = () => shown.stdout.trim().split('\n')
  await until(() => lines().length >= 18, 'the last lines, of an older file too')
  for (let round = 0; round < 5; round++) {
    write(9)
    await until(() => lines().length >= written - 2, 'what came meanwhile')
  }
  t.alike(
    lines(),
    Array.from({ length: written - 2 }, (_, i) => line(i + 2)),
  )
  t.ok(existsSync(olderLog(homeFiles(home).log('gateway', 'g1'), 3)), 'it was put aside again and again')
})
