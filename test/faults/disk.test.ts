import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { isAlive } from '../../lib/home/index.js'
import { cliEnv, type Exit, infermesh, readStatus, spawnProgram, until } from '../helpers/mesh.js'
import { testUnless } from '../helpers/needs.js'
import { CLI } from '../helpers/process.js'
import { Scrape } from '../helpers/scrape.js'
import { NO_SMALL_DISK, SmallDisk } from '../helpers/small-disk.js'

/**
 * A whole home on a disk that others fill to the last byte. The bound: no process ends by it, no link is cut, what cannot
 * be recorded is refused before it is done, and all is as before within a minute of there being room, by itself.
 */

const disk = SmallDisk.make('112m')
const missing = disk === undefined ? NO_SMALL_DISK : undefined
const QUESTION = { messages: [{ role: 'user', content: 'hi' }], max_tokens: 1 }

/** A running mesh as its users see it over HTTP. */
class Door {
  constructor(
    readonly home: string,
    readonly key: string,
  ) {}

  /** Where the gateway is now: one that was started again has another port. */
  get url(): string {
    return readStatus(this.home, 'gateway', 'gateway')?.addresses.http ?? ''
  }

  async ask(method: string, path: string, body?: object): Promise<{ status: number; code?: string; text: string }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
    })
    const text = await response.text()
    const code = (JSON.parse(text || '{}') as { error?: { code: string } }).error?.code
    return { status: response.status, code, text }
  }

  chat() {
    return this.ask('POST', '/v1/chat/completions', QUESTION)
  }

  /** A change of a key that takes some room. */
  change(id: string) {
    const models = Array.from({ length: 24 }, (_, i) => `${'m'.repeat(60)}${i}`)
    return this.ask('PATCH', `/api/v1/keys/${id}`, { limits: { models } })
  }
}

/** The worker processes of a home, whatever its files say. */
function workerPids(home: string, role: string): number[] {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      const args = readFileSync(join('/proc', pid, 'cmdline'), 'utf8').split('\0')
      return args.includes(home) && args.includes('--wtype') && args.includes(role) ? [Number(pid)] : []
    } catch {
      return []
    }
  })
}

interface Up {
  key: string
  endpoints: { metrics: string }
}

async function up(t: Test, home: string): Promise<{ door: Door; scrape: Scrape; supervisor: number }> {
  const settings = ['auth.minFreeDiskBytes=0', 'gateway.minFreeDiskBytes=8388608'].flatMap((one) => ['--set', one])
  const { stdout, stderr, code } = await infermesh(
    ['up', '--detach', '--no-check', '--json', '--http-port', '0', '--metrics-port', '0', ...settings],
    { home },
  )
  t.is(code, 0, stderr)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  const { key, endpoints } = JSON.parse(stdout) as Up
  const { pid } = JSON.parse(readFileSync(join(home, 'supervisor.json'), 'utf8')) as { pid: number }
  return { door: new Door(home, key), scrape: new Scrape(endpoints.metrics), supervisor: pid }
}

testUnless(
  missing,
  'a disk that is full ends nothing, and all is as before once there is room',
  { timeout: 120_000 },
  async (t) => {
    if (disk === undefined) return
    const home = join(disk.dir, 'home')
    const { door, scrape, supervisor } = await up(t, home)
    await until(async () => (await fetch(`${door.url}/readyz`)).ok, 'the gateway is ready')
    t.is((await door.chat()).status, 200)
    const { id } = JSON.parse((await door.ask('POST', '/api/v1/keys', { user: 'admin' })).text) as { id: string }
    await scrape.whole(4)
    const closed = await scrape.linksClosed()

    disk.fill()
    const notReady = await until(async () => {
      const answer = await door.ask('GET', '/readyz')
      return answer.status === 503 && answer
    }, 'the gateway says that it cannot serve')
    t.ok(/disk/.test(notReady.text), notReady.text)
    const refused = await door.chat()
    t.alike([refused.status, refused.code], [503, 'disk_full'])

    // The stores go on in the room that they took before; then each meets the end of the disk.
    const change = await until(async () => {
      const answers = await Promise.all(Array.from({ length: 16 }, () => door.change(id)))
      return answers.find(({ status }) => status !== 200)
    }, 'the authority cannot write')
    t.alike([change.status, change.code], [503, 'disk_full'], change.text)
    t.ok(change.text.includes('authority'), 'it says whose disk it is')
    t.is((await door.ask('GET', '/api/v1/keys')).status, 200, 'reads go on')
    t.is((await door.ask('GET', '/v1/models')).status, 200)
    t.alike(await scrape.linksClosed(), closed, 'no link was cut')
    const commands = await Promise.all([['status'], ['logs']].map((command) => infermesh(command, { home })))
    t.alike(
      commands.map(({ code }) => code),
      [0, 0],
    )

    // A worker that ends now cannot start; it is tried again and again.
    const before = workerPids(home, 'gateway')
    for (const pid of before) process.kill(pid, 'SIGKILL')
    const seen = new Set<number>()
    await until(
      () => {
        for (const pid of workerPids(home, 'gateway')) if (!before.includes(pid)) seen.add(pid)
        return seen.size >= 2
      },
      'the supervisor tries',
      30_000,
    )
    t.ok(isAlive(supervisor))

    disk.free()
    const freed = performance.now()
    const live = () => workerPids(home, 'gateway').at(-1)
    await until(
      async () => {
        const [status, pid] = [readStatus(home, 'gateway', 'gateway'), live()]
        if (status === undefined || status.pid !== pid) return false
        return (await fetch(`${status.addresses.http}/readyz`)).ok
      },
      'the gateway serves again',
      60_000,
    )
    await until(async () => (await door.change(id)).status === 200, 'the authority writes again', 30_000)
    await until(async () => (await door.chat()).status === 200, 'requests are served', 30_000)
    t.comment(`as before ${Math.round(performance.now() - freed)} ms after there was room`)
    t.ok(isAlive(supervisor))
    const usage = await until(async () => {
      const { text } = await door.ask('GET', '/api/v1/usage')
      const { rows } = JSON.parse(text) as { rows?: { requests: number }[] }
      if (rows === undefined) throw new Error(text)
      const requests = rows.reduce((sum, row) => sum + row.requests, 0)
      return requests >= 2 && requests
    }, 'what was served is accounted for')
    t.is(usage, 2)
    t.is((await infermesh(['down'], { home })).code, 0)
  },
)

testUnless(missing, 'what starts on a full disk says so in one line', { timeout: 30_000 }, async (t) => {
  if (disk === undefined) return
  disk.fill()
  t.teardown(() => disk.free())
  const home = join(disk.dir, 'another')
  const { code, stderr }: Exit = await spawnProgram(
    t,
    [process.execPath, CLI, 'up', '--no-check', '--json', '--role', 'auth'],
    {
      env: cliEnv(home),
    },
  ).exited
  t.is(code, 69, stderr)
  t.ok(/^\{"error":\{"code":"DISK_FULL"/.test(stderr.trim()), stderr)
})
