import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { homeFiles, isAlive } from '../lib/home/index.js'
import type { Role } from '../lib/protocol/index.js'
import { CLI, cliEnv, readStatus, spawnNode, spawnProgram, startAuth, testHome, until } from './helpers/mesh.js'
import { onTeardown } from './helpers/teardown.js'

/** The engine process that a processor starts before its own modules are loaded, and workers that wait for the word. */

/** All that runs on this machine. */
function programs(): { pid: number; parent: number; args: string }[] {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => {
    const [, pid, parent, args = ''] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? []
    return pid === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), args }]
  })
}

/** The engine processes of a processor, also of one that is gone: each is told whose it is. */
function enginesOf(processor: number | undefined): number[] {
  const ending = `${join('engine', 'main.js')} ${processor}`
  return programs().flatMap(({ pid, args }) => (args.endsWith(ending) ? [pid] : []))
}

/** Waits for the one engine process that a processor has begun with. */
async function firstEngine(processor: number | undefined): Promise<number> {
  await until(() => enginesOf(processor).length > 0, 'there is an engine process')
  const [engine, ...others] = enginesOf(processor)
  if (engine === undefined || others.length > 0) throw new Error(`${others.length + 1} engine processes`)
  return engine
}

const gone = (pid: number) => until(() => !isAlive(pid), `the process ${pid} has ended`)

function processorArgs(home: string, ...settings: string[]): string[] {
  const all = ['log.level=silent', 'engine.gpu=off', ...settings].flatMap((setting) => ['--set', setting])
  return ['--wtype', 'processor', '--rack', 'p1', '--data-dir', home, ...all]
}

test('the first model is loaded by the engine process that was started first, which ends with its processor', async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const { process: worker, exited } = spawnNode(t, 'worker.js', processorArgs(home))
  const engine = await firstEngine(worker.pid)
  const isLoaded = () => readStatus(home, 'processor', 'p1')?.load.models.some(({ state }) => state === 'loaded')
  await until(isLoaded, 'the model is loaded')
  t.alike(enginesOf(worker.pid), [engine], 'there is no other')
  worker.kill('SIGKILL')
  await exited
  await gone(engine)
  t.pass('it ends with its processor')
})

test('the first engine process ends where its processor loads no model: of wrong settings, or without the embedded model', async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const refused = spawnNode(t, 'worker.js', processorArgs(home, 'engine.slots=0'))
  const unused = await firstEngine(refused.process.pid)
  t.is((await refused.exited).code, 78)
  await gone(unused)
  const { process: worker } = spawnNode(t, 'worker.js', processorArgs(home, 'engine.embedded=false'))
  const idle = await firstEngine(worker.pid)
  await until(() => readStatus(home, 'processor', 'p1')?.load.state === 'ready', 'the processor is ready')
  await gone(idle)
  t.alike(enginesOf(worker.pid), [], 'and no other was started')
})

test('workers that wait for the word end, and their engines, when their supervisor is killed', async (t) => {
  const home = await testHome(t)
  const args = ['up', '--no-check', '--http-port', '0', '--metrics-port', '0', '--gpu', 'off']
  const supervisor = spawnProgram(t, [process.execPath, CLI, ...args], { env: cliEnv(home) })
  const worker = (role: Role) =>
    until(
      () =>
        programs().find(({ parent, args }) => parent === supervisor.process.pid && args.includes(`--wtype ${role} `))
          ?.pid,
      `${role} is started`,
    )
  const auth = await worker('auth')
  // An authority that does not come to be ready: the others wait.
  process.kill(auth, 'SIGSTOP')
  onTeardown(t, async () => {
    if (isAlive(auth)) process.kill(auth, 'SIGKILL')
  })
  const held = [await worker('gateway'), await worker('processor')]
  const engine = await firstEngine(held[1])
  for (const role of ['gateway', 'processor'] as const) {
    await until(() => existsSync(join(homeFiles(home).worker(role, role), 'store.pid')), `the store of ${role} is open`)
    t.absent(readStatus(home, role, role), `${role} is not ready`)
  }
  supervisor.process.kill('SIGKILL')
  await supervisor.exited
  for (const pid of [...held, engine]) await gone(pid)
  process.kill(auth, 'SIGCONT')
  await gone(auth)
  t.pass('and the authority, too')
})
