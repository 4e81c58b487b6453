import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { Supervisor } from '../cli/supervisor/supervisor.js'
import { homeFiles } from '../lib/home/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { ready, spawnNode, startAuth, testHome, until } from './helpers/mesh.js'
import { onTeardown } from './helpers/teardown.js'

/** Starts a worker as a supervisor does: over a channel. */
function startHeld(t: Test, home: string): { child: ChildProcess; exited: Promise<number | null> } {
  const args = ['--wtype', 'gateway', '--rack', 'g1', '--data-dir', home, '--set', 'http.port=0', '--held']
  const child = fork(join(PACKAGE_ROOT, 'dist', 'worker.js'), args, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve))
  onTeardown(t, async () => {
    child.kill('SIGTERM')
    await exited
  })
  return { child, exited }
}

const storeIsOpen = (home: string) => existsSync(join(homeFiles(home).worker('gateway', 'g1'), 'store.pid'))

test('a worker that is held opens its store, and goes to the network at the word', async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const { child } = startHeld(t, home)
  await until(() => storeIsOpen(home), 'the store is open')
  t.absent(existsSync(homeFiles(home).status('gateway', 'g1')), 'it is not ready')
  child.send('go')
  const { load } = await ready(home, 'gateway', 'g1', child.pid)
  t.is(load.state, 'ready')
})

test('a worker that is held ends with the process that started it', async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const { child, exited } = startHeld(t, home)
  await until(() => storeIsOpen(home), 'the store is open')
  child.disconnect()
  t.is(await exited, 0)
  const early = startHeld(t, home)
  early.child.disconnect()
  t.is(await early.exited, 0, 'also one that has only just begun to load')
})

test('a worker that nobody could let go refuses to be held', async (t) => {
  const { code, stderr } = await spawnNode(t, 'worker.js', ['--wtype', 'gateway', '--held']).exited
  t.is(code, 64)
  t.ok(/--held: nobody could say "go"/.test(stderr), stderr)
})

test('the workers of a home load side by side, and the authority is ready before the others', async (t) => {
  const home = await testHome(t)
  const settings = ['log.level=silent', 'http.port=0', 'metrics.port=0']
  const specs = (['auth', 'gateway', 'metrics'] as const).map((role) => ({ role, name: role, settings }))
  const supervisor = new Supervisor(home, specs)
  onTeardown(t, () => supervisor.stop())
  const changes: string[] = []
  supervisor.on('change', ({ role, state }) => changes.push(`${role} ${state}`))
  await supervisor.start()
  t.alike(changes.slice(0, 4), ['auth starting', 'gateway starting', 'auth ready', 'metrics starting'])
  t.alike(changes.slice(4).toSorted(), ['gateway ready', 'metrics ready'])
})
