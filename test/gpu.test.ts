import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { planInstall } from '../cli/shared/engine-install.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { installTarball, pack, readManifest } from './helpers/installed.js'
import { CLI, infermesh, runProgram } from './helpers/process.js'
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

test('a machine without an engine says which command brings it', LONG, async (t) => {
  const project = await t.tmp()
  const dir = await installTarball(project, await pack(PACKAGE_ROOT, await t.tmp()))
  t.absent(existsSync(join(project, 'node_modules', 'node-llama-cpp')))
  const home = join(await t.tmp(), 'home')
  const args = ['up', '--no-check', '--http-port', '0', '--metrics-port', '0', '--home', home]
  const { code, stderr } = await runProgram([process.execPath, CLI.replace(PACKAGE_ROOT, `${dir}/`), ...args])
  t.is(code, 78)
  t.ok(/no engine .*`infermesh gpu install cpu` brings it/.test(stderr), stderr)
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
