import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type Test } from 'brittle'
import { homeFiles, readProfile } from '../lib/home/index.js'
import { advertise } from '../lib/lan/index.js'
import { PROTOCOL_VERSION } from '../lib/protocol/index.js'
import { type Child, CLI, cliEnv, infermesh, spawnProgram, testHome, until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { onTeardown } from './helpers/teardown.js'
import { NEEDS, Terminal } from './helpers/terminal.js'

/** A machine finds a mesh by itself, and a person lets it in: on loopback, with a LAN's mesh on it. */

const HERE = '127.0.0.1'
const LAN = ['--network', 'lan', '--net-host', HERE]
const PORTS = ['--http-port', '0', '--metrics-port', '0']
const UP = ['up', '--detach', '--no-check', ...PORTS]

interface Request {
  code: string
  name: string
  role: string
  address: string
}

async function json<T>(home: string, ...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await infermesh([...args, '--json'], { home })
  if (code !== 0) throw new Error(`infermesh ${args.join(' ')} ended with ${code}: ${stderr}`)
  return JSON.parse(stdout) as T
}

/** Makes a mesh of a LAN. @returns its address */
async function up(home: string, ...more: string[]): Promise<string> {
  return (await json<{ mesh: string }>(home, ...UP, ...LAN, '--role', 'auth', '--role', 'gateway', ...more)).mesh
}

/** `infermesh join`, which waits for somebody. */
function join(t: Test, home: string, ...args: string[]): Child {
  const command = [process.execPath, CLI, 'join', '--net-host', HERE, '--yes', '--json', ...args]
  return spawnProgram(t, command, { env: cliEnv(home) })
}

function codeOf(joining: Child): Promise<string> {
  return until(() => /\{"code":"(.*)"\}/.exec(joining.stderr)?.[1], `a code: ${joining.stderr}`, 20_000)
}

const requests = async (home: string) => (await json<{ requests: Request[] }>(home, 'members', 'requests')).requests

const home = mkdtempSync(path.join(tmpdir(), 'infermesh-nearby-test-'))
let mesh = ''

// Where a test fails, its mesh must not go on.
process.once('exit', () => {
  spawnSync(process.execPath, [CLI, 'down', '--force'], { env: { PATH: process.env.PATH, ...cliEnv(home) } })
  rmSync(home, { recursive: true, force: true })
})

test('a machine finds a mesh, shows a code, and is let in with it', { timeout: 180_000 }, async (t) => {
  mesh = await up(home)
  t.is((await infermesh(['members', 'requests'], { home })).stdout, 'No machine asks to join.\n')

  const other = await testHome(t)
  t.teardown(() => infermesh(['down'], { home: other }))
  const began = performance.now()
  const joining = join(t, other, '--mesh', mesh, '--name', 'p2')
  const code = await codeOf(joining)
  t.comment(`found, and a code shown, in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  const [request] = await requests(home)
  t.alike([request?.code, request?.name, request?.role, request?.address], [code, 'p2', 'processor', HERE])
  t.ok(
    new RegExp(`^${code} +p2 +processor +127`, 'm').test((await infermesh(['members', 'requests'], { home })).stdout),
  )

  const unasked = await infermesh(['members', 'accept', 'p2'], { home })
  t.is(unasked.code, 64, 'a name is no proof')
  t.ok(/give the code that the machine shows/.test(unasked.stderr), unasked.stderr)
  t.is((await infermesh(['members', 'accept', 'zzz-zzz'], { home })).code, 64)
  t.is((await infermesh(['members', 'accept', code], { home })).stdout, 'processor p2 is a member of the mesh now\n')
  const { code: exit, stdout, stderr } = await joining.exited
  t.is(exit, 0, stderr)
  t.is((JSON.parse(stdout) as { mesh: string }).mesh, mesh)
  t.ok(/member\.accept +processor\/p2/.test((await infermesh(['audit', '--limit', '3'], { home })).stdout))

  await json(other, ...UP)
  const served = async () =>
    (await json<{ models: { processors: string[] }[] }>(home, 'models', 'ls')).models[0]?.processors.includes('p2')
  await until(served, 'it serves', 20_000)
})

test('a request is refused, or taken back by Ctrl-C', { timeout: 120_000 }, async (t) => {
  const other = await testHome(t)
  const refused = join(t, other, '--mesh', mesh, '--name', 'p3')
  await codeOf(refused)
  t.is((await infermesh(['members', 'refuse', 'p3'], { home })).stdout, 'processor p3 was refused\n')
  const end = await refused.exited
  t.is(end.code, 77, end.stderr)
  t.ok(/an admin refused the request/.test(end.stderr), end.stderr)
  t.absent(existsSync(homeFiles(other).mesh), 'and nothing is kept')

  const back = join(t, other, '--mesh', mesh, '--name', 'p3', '--role', 'gateway')
  await codeOf(back)
  t.is((await requests(home))[0]?.role, 'gateway')
  back.process.kill('SIGINT')
  t.is((await back.exited).code, 130)
  t.alike(await requests(home), [], 'taken back at once')
})

test('an impostor is not joined, nothing is joined unasked, and whose machine died is forgotten meanwhile', {
  timeout: 180_000,
}, async (t) => {
  const killed = join(t, await testHome(t), '--mesh', mesh, '--name', 'p3')
  await codeOf(killed)
  killed.process.kill('SIGKILL')
  await killed.exited
  t.is((await requests(home)).length, 1)
  const [evil, evilMesh] = [home, mesh]
  const quiet = await testHome(t)
  t.teardown(() => infermesh(['down'], { home: quiet }))
  const meant = await up(quiet, '--set', 'auth.nearby=false')
  const other = await testHome(t)

  const unasked = await infermesh(['join', '--net-host', HERE], { home: other })
  t.is(unasked.code, 64)
  t.ok(/give an invite, or --yes/.test(unasked.stderr), unasked.stderr)
  const silent = await join(t, other, '--mesh', meant).exited
  t.is(silent.code, 69, silent.stderr)
  t.ok(/No mesh named .* was found nearby\. .*infermesh network lan/.test(silent.stderr), silent.stderr)

  // Another mesh's authority says that it is this mesh.
  const { authority, network } = readProfile(evil)
  const advert = { authority, bootstrap: network.bootstrap[0] ?? '', version: '1', protocol: PROTOCOL_VERSION }
  const told = await advertise({ mesh: meant, name: 'friend', ...advert }, HERE)
  onTeardown(t, () => told.stop())
  const fooled = join(t, other, '--mesh', meant, '--name', 'p4')
  const code = await codeOf(fooled)
  t.alike(await requests(quiet), [], 'the mesh that was meant has no such request')
  t.is((await infermesh(['members', 'accept', code], { home: evil })).code, 0)
  const end = await fooled.exited
  t.is(end.code, 77, end.stderr)
  t.ok(/is not the authority of the mesh/.test(end.stderr), end.stderr)
  t.absent(existsSync(homeFiles(other).mesh))

  const twin = await advertise({ mesh: evilMesh, name: 'friend', ...advert, bootstrap: `${HERE}:9` }, HERE)
  onTeardown(t, () => twin.stop())
  const old = await advertise({ mesh: 'y'.repeat(52), name: 'old', ...advert, protocol: 3 }, HERE)
  onTeardown(t, () => old.stop())
  const [torn, other3] = await Promise.all([
    join(t, other, '--mesh', evilMesh).exited,
    join(t, other, '--mesh', 'old').exited,
  ])
  t.is(torn.code, 64, torn.stderr)
  t.ok(/2 say that they are/.test(torn.stderr), torn.stderr)
  t.is(other3.code, 69)
  t.ok(/speaks protocol 3, this machine \d/.test(other3.stderr), other3.stderr)
  await until(async () => (await requests(home)).length === 0, 'forgotten', 20_000)
})

testUnless(missingProgram(NEEDS), 'two people at two terminals', { timeout: 180_000 }, async (t) => {
  const here = await testHome(t)
  const up = new Terminal(t, here, ['up', '--no-check', ...PORTS, ...LAN])
  await up.sees(/> $/, 60_000)
  const { mesh } = await json<{ mesh: string }>(here, 'network')
  const other = await testHome(t)
  const joining = new Terminal(t, other, ['join', '--net-host', HERE, '--mesh', mesh, '--name', 'p2'])
  await joining.sees(/Ask to join the mesh of \S+ \(127\.0\.0\.1, infermesh \S+\)\? \[y\/N\] $/)
  joining.type('y\r')
  const asked = await joining.sees(/type \/accept \S+ in its chat/)
  const [, code = ''] = /Code of this request: (\S+)/.exec(asked) ?? []
  t.ok(code.length === 7, asked)
  up.type('half')
  const told = await up.sees(
    new RegExp(`p2 asks to join as processor, from 127\\.0\\.0\\.1\\. Where it shows ${code}: /accept`),
  )
  t.ok(told)
  up.type(`\x15/accept ${code}\r`)
  await up.sees(/processor p2 is a member of the mesh now/)
  await joining.sees(/Did \S+ itself show \S+, and was it accepted there\? \[y\/N\] $/)
  joining.type('y\r')
  await joining.sees(/This machine is the processor p2 of the mesh/)
  t.is((await joining.exited).code, 0)

  const wary = new Terminal(t, await testHome(t), ['join', '--net-host', HERE, '--mesh', mesh])
  await wary.sees(/\[y\/N\] $/)
  wary.type('\r')
  t.is((await wary.exited).code, 75, 'a no asks nobody')
  up.type('/exit\r')
  t.is((await up.exited).code, 0)
})
