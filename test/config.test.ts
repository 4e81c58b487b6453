import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { z } from 'zod'
import { homeFiles } from '../lib/home/index.js'
import { MeshError } from '../lib/protocol/index.js'
import { loadConfig, removedSettings } from '../lib/worker-base/config.js'
import { httpConfigSchema } from '../lib/worker-base/http/index.js'
import type { WorkerOptions } from '../lib/worker-base/index.js'
import { logConfigSchema } from '../lib/worker-base/log.js'
import { netConfigSchema } from '../lib/worker-base/net/config.js'
import { spawnNode, TestWorker } from './helpers/mesh.js'

async function homeWith(t: Test, facility: string, text: string): Promise<{ home: string; path: string }> {
  const home = await t.tmp()
  const dir = homeFiles(home).configDir
  mkdirSync(dir, { recursive: true })
  const path = join(dir, `${facility}.config.json`)
  writeFileSync(path, text)
  return { home, path }
}

function failure(load: () => unknown): MeshError {
  try {
    load()
  } catch (err) {
    if (err instanceof MeshError) return err
    throw err
  }
  throw new Error('nothing was refused')
}

/** Two of the http facility's settings. */
function address(sources: Parameters<typeof loadConfig>[2]): { host: string; port: number } {
  const { host, port } = loadConfig('http', httpConfigSchema, sources)
  return { host, port }
}

test('the shipped file, the home, the environment and the flags are read in this order, and later wins key by key', async (t) => {
  const empty = { home: await t.tmp(), env: {}, flags: {} }
  t.alike(address(empty), { host: '127.0.0.1', port: 8080 }, 'the shipped file')

  const { home } = await homeWith(t, 'http', '{"port":1,"host":"home"}')
  t.alike(address({ ...empty, home }), { host: 'home', port: 1 }, 'the home')

  const env = { INFERMESH_HTTP__PORT: '2', INFERMESH_OTHER__PORT: 'x', INFERMESH_HOME: 'x' }
  t.alike(address({ home, env, flags: {} }), { host: 'home', port: 2 }, 'the environment')

  const flags = { http: { port: 3 }, other: { port: 'x' } }
  t.alike(address({ home, env, flags }), { host: 'home', port: 3 }, 'the flags')
})

test('a variable names a key in capitals, and holds JSON where the setting is no text', async (t) => {
  const home = await t.tmp()
  const env = {
    INFERMESH_NET__BOOTSTRAP_PORT: '4000',
    INFERMESH_NET__BOOTSTRAP: '["10.0.0.1:4000"]',
    INFERMESH_NET__HOST: '10',
  }
  const config = loadConfig('net', netConfigSchema, { home, env, flags: {} })
  t.is(config.bootstrapPort, 4000)
  t.alike(config.bootstrap, ['10.0.0.1:4000'])
  t.is(config.host, '10', 'a text that looks like a number stays a text')
})

test('an unknown key is refused with its source, its name and the known ones', async (t) => {
  const { home, path } = await homeWith(t, 'http', '{"prot":1}')
  const sources = { home: await t.tmp(), env: {}, flags: {} }
  const known = Object.keys(httpConfigSchema.shape).join(', ')
  const inHome = failure(() => loadConfig('http', httpConfigSchema, { ...sources, home }))
  t.is(inHome.message, `${path}: prot: unknown key; known are ${known}`)
  t.is(inHome.code, 'CONFIG_INVALID')
  t.is(inHome.exitCode, 78)

  const env = { INFERMESH_HTTP__PROT: '1' }
  t.is(
    failure(() => loadConfig('http', httpConfigSchema, { ...sources, env })).message,
    `INFERMESH_HTTP__PROT: unknown key; known are ${known}`,
  )
  const flags = { http: { prot: 1 } }
  t.is(
    failure(() => loadConfig('http', httpConfigSchema, { ...sources, flags })).message,
    `--http.prot: unknown key; known are ${known}`,
  )
})

test('a wrong type is refused with its source, its key, what was expected and what was there', async (t) => {
  const { home, path } = await homeWith(t, 'http', '{"port":"many"}')
  const sources = { home: await t.tmp(), env: {}, flags: {} }
  const inHome = failure(() => loadConfig('http', httpConfigSchema, { ...sources, home })).message
  t.ok(inHome.startsWith(`${path}: port: `), inHome)
  t.ok(/expected a number/.test(inHome), inHome)
  t.ok(inHome.endsWith('got "many"'), inHome)
  t.is(inHome.split('\n').length, 1)

  const inEnv = failure(() =>
    loadConfig('http', httpConfigSchema, { ...sources, env: { INFERMESH_HTTP__PORT: '70000' } }),
  )
  t.ok(/^INFERMESH_HTTP__PORT: .*65535.*got 70000$/.test(inEnv.message), inEnv.message)

  const flags = { net: { bootstrap: ['10.0.0.1:1', 'nowhere'] } }
  const inFlags = failure(() => loadConfig('net', netConfigSchema, { ...sources, flags })).message
  t.ok(inFlags.startsWith('--net.bootstrap.1: expected host:port'), inFlags)
})

test('a setting of a former version is passed over, and named in one line', async (t) => {
  const { home, path } = await homeWith(t, 'log', '{"level":"warn","prompts":false}')
  const sources = { home, env: { INFERMESH_LOG__PROMPTS: 'true' }, flags: { log: { prompts: true } } }
  t.alike(loadConfig('log', logConfigSchema, sources), { level: 'warn' })
  const says = (place: string) => `${place}: there is no such setting any more: take it out`
  t.alike(removedSettings(sources), [`${path}: prompts`, 'INFERMESH_LOG__PROMPTS', '--log.prompts'].map(says))
  t.alike(removedSettings({ home: await t.tmp(), env: {}, flags: {} }), [])

  const worker = new TestWorker('processor', { home, name: 'p1', environment: {} })
  await t.exception(worker.start(), /belongs to no mesh/, 'a worker reads it and goes on')
  const lines = readFileSync(homeFiles(home).log('processor', 'p1'), 'utf8').split('\n')
  t.is(lines.filter((line) => line.includes('no such setting any more')).length, 1)
})

test('settings of a facility that does not exist are refused, wherever they are', async (t) => {
  const make = (home: string, options: Partial<WorkerOptions> = {}) =>
    failure(() => new TestWorker('processor', { home, name: 'p1', environment: {}, ...options }))
  const { home, path } = await homeWith(t, 'htpp', '{}')
  const inHome = make(home)
  t.ok(inHome.message.startsWith(`${path}: unknown facility; known are `), inHome.message)
  t.is(inHome.exitCode, 78)
  const empty = await t.tmp()
  const inEnv = make(empty, { environment: { INFERMESH_HTPP__PORT: '1', INFERMESH_HTTP__PORT: '1' } })
  t.ok(inEnv.message.startsWith('INFERMESH_HTPP__PORT: unknown facility; known are '), inEnv.message)
  const inFlags = make(empty, { flags: { htpp: { port: 1 } } })
  t.ok(inFlags.message.startsWith('--htpp: unknown facility; known are '), inFlags.message)
})

test('a file that is no JSON object is refused by its path', async (t) => {
  for (const text of ['{', '[]', '1', 'null']) {
    const { home, path } = await homeWith(t, 'http', text)
    const err = failure(() => loadConfig('http', httpConfigSchema, { home, env: {}, flags: {} }))
    t.ok(err.message.startsWith(path), err.message)
    t.is(err.exitCode, 78)
  }
})

test('a setting that no source gives is named with its facility', async (t) => {
  const schema = z.strictObject({ missing: z.string() })
  const err = failure(() => loadConfig('nowhere', schema, { home: '/nonexistent', env: {}, flags: {} }))
  t.ok(err.message.startsWith('nowhere: missing: '), err.message)
})

test('a worker with a wrong setting ends with one clear line and exit code 78', async (t) => {
  const { home, path } = await homeWith(t, 'http', '{"port":"many"}')
  const run = (args: string[], env?: NodeJS.ProcessEnv) => spawnNode(t, 'worker.js', args, env).exited
  const base = ['--wtype', 'gateway', '--data-dir']

  const inHome = await run([...base, home])
  t.is(inHome.code, 78)
  t.ok(inHome.stderr.startsWith(`infermesh: ${path}: port: `), inHome.stderr)
  t.is(inHome.stderr.trim().split('\n').length, 1)

  const inEnv = await run([...base, await t.tmp()], { INFERMESH_WORKER__DRAIN_MS: 'soon' })
  t.is(inEnv.code, 78)
  t.is(inEnv.stderr, 'infermesh: INFERMESH_WORKER__DRAIN_MS: expected a number, got "soon"\n')

  const inFlags = await run([...base, await t.tmp(), '--set', 'net.kind=wan'])
  t.is(inFlags.code, 78)
  t.ok(inFlags.stderr.startsWith('infermesh: --net.kind: '), inFlags.stderr)
  t.ok(inFlags.stderr.includes('expected one of local, lan, private, public'), inFlags.stderr)
})
