import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { planInstall } from '../cli/shared/engine-install.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { installTarball, pack, readManifest } from './helpers/installed.js'
import { cliEnv, infermesh, runProgram } from './helpers/process.js'
import { startRegistry } from './helpers/registry.js'
import { codeOf } from './helpers/wait.js'

/** How the engine and its back ends come to a machine. */

const MB = 1e6
const LONG = { timeout: 120_000 }
const root = readManifest(PACKAGE_ROOT)

test('infermesh gpu says what it would bring, and why it cannot', LONG, async (t) => {
  const plan = await infermesh(['gpu', 'install', 'cpu', '--dry-run', '--json'])
  t.is(plan.code, 0, plan.stderr)
  const { packages, bytes, installed } = JSON.parse(plan.stdout)
  t.is(packages['node-llama-cpp'], root.peerDependencies?.['node-llama-cpp'])
  t.ok(bytes > 50 * MB)
  t.is(installed, false)
  const said = await infermesh(['gpu', 'install', 'cpu', '--dry-run'])
  t.ok(/about 80 MB on disk/.test(said.stdout), said.stdout)

  const offline = {
    npm_config_registry: 'http://127.0.0.1:9/',
    npm_config_fetch_retries: '0',
    npm_config_cache: await t.tmp(),
  }
  // What an install left that was killed: no process has this id.
  const killed = join(PACKAGE_ROOT, 'dist', '.engine-99999999')
  mkdirSync(killed, { recursive: true })
  writeFileSync(join(killed, 'package.json'), '{}')
  const unreachable = await infermesh(['gpu', 'install', 'cpu'], { env: offline })
  t.is(unreachable.code, 69)
  t.ok(
    /^infermesh: npm could not bring the engine: .*registry cannot be reached/.test(unreachable.stderr),
    unreachable.stderr,
  )
  const withoutNpm = await infermesh(['gpu', 'install', 'cpu'], { env: { PATH: await t.tmp() } })
  t.is(withoutNpm.code, 69)
  t.ok(/npm is not on the path/.test(withoutNpm.stderr), withoutNpm.stderr)
  t.alike(leftOvers(), [])
  t.is((await infermesh(['gpu', 'install', 'metal'])).code, 64)
  const here = JSON.parse((await infermesh(['gpu', 'ls', '--json'])).stdout)
  t.ok(here.backEnds.find(({ backEnd }: { backEnd: string }) => backEnd === 'cpu').installed)
})

test('a machine without an engine says which command brings it, and with that it answers', {
  timeout: 180_000,
}, async (t) => {
  const project = await t.tmp()
  const dir = await installTarball(project, await pack(PACKAGE_ROOT, await t.tmp()))
  t.absent(existsSync(join(project, 'node_modules', 'node-llama-cpp')))
  const home = join(await t.tmp(), 'home')
  const registry = { npm_config_registry: await startRegistry(t), npm_config_cache: await t.tmp() }
  const installed = (...args: string[]) =>
    runProgram([process.execPath, join(dir, 'dist', 'cli', 'main.js'), ...args], {
      env: { ...cliEnv(home), ...registry },
    })
  const up = ['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0']
  const without = await installed(...up)
  t.is(without.code, 78)
  t.ok(/no engine .*`infermesh gpu install cpu` brings it/.test(without.stderr), without.stderr)

  const engineAt = async () => {
    const { findings } = JSON.parse((await installed('doctor', '--json')).stdout)
    return findings.filter(({ check }: { check: string }) => check === 'engine')
  }
  const [missing] = await engineAt()
  t.is(missing.state, 'fail')
  t.ok(missing.advice.startsWith('`infermesh gpu install cpu` brings it'), missing.advice)

  const brought = await installed('gpu', 'install', 'cpu')
  t.is(brought.code, 0, brought.stderr)
  const here = JSON.parse((await installed('gpu', 'ls', '--json')).stdout)
  t.alike(
    here.backEnds.map(({ installed }: { installed: boolean }) => installed),
    [true, false, false],
  )
  t.alike(
    readdirSync(join(here.dir, '@node-llama-cpp')),
    Object.keys(planInstall('cpu').packages).flatMap((name) => name.split('@node-llama-cpp/')[1] ?? []),
    'no back end of another kind or platform',
  )
  t.alike(await engineAt(), [{ check: 'engine', state: 'ok', message: 'node-llama-cpp, for cpu' }])
  t.teardown(() => installed('down'))
  const started = await installed(...up)
  t.is(started.code, 0, started.stderr)
  const { stdout, stderr } = await installed('run', 'What is the capital of France?')
  t.ok(stdout.includes('Paris'), stdout + stderr)
})

test('each machine gets its own back ends, and others are told that there is none', async (t) => {
  const namesFor = (backEnd: 'cpu' | 'cuda', platform: NodeJS.Platform, arch: NodeJS.Architecture) =>
    Object.keys(planInstall(backEnd, { platform, arch }).packages).filter((name) => name.startsWith('@node-llama-cpp/'))
  t.alike(namesFor('cpu', 'darwin', 'arm64'), ['@node-llama-cpp/mac-arm64-metal'])
  t.alike(namesFor('cuda', 'win32', 'x64'), [
    '@node-llama-cpp/win-x64',
    '@node-llama-cpp/win-x64-cuda',
    '@node-llama-cpp/win-x64-cuda-ext',
  ])
  for (const [backEnd, platform, arch] of [
    ['cuda', 'darwin', 'arm64'],
    ['cpu', 'freebsd', 'x64'],
    ['cpu', 'linux', 'riscv64'],
  ] as const) {
    t.is(
      await codeOf((async () => namesFor(backEnd, platform, arch))()),
      'ENGINE_FAILED',
      `${backEnd} ${platform} ${arch}`,
    )
  }
})

/** What an install that failed left where engines look. */
function leftOvers(): string[] {
  return readdirSync(join(PACKAGE_ROOT, 'dist')).filter((name) => name.startsWith('.engine-'))
}
