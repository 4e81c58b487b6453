import { spawnSync } from 'node:child_process'
import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { GatewayWorker } from '../workers/gateway/index.js'
import { adminKey, infermesh, start, startAuth, startStranger, testHome, testOptions, until } from './helpers/mesh.js'

/** A home that was moved or copied is told for one, and goes on once its original is known to be gone. */

const WAYS: Record<string, (from: string, to: string) => void> = {
  'cp -a': (from, to) => run('cp', ['-a', from, to]),
  'tar and untar': (from, to) => {
    run('tar', ['-C', from, '-cf', `${to}.tar`, '.'])
    mkdirSync(to)
    run('tar', ['-C', to, '-xf', `${to}.tar`])
  },
}

function run(command: string, args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}

async function home(t: Test): Promise<{ place: string; publicKey: string }> {
  const place = join(await testHome(t), 'home')
  const auth = await startAuth(t, place)
  const gateway = await start(t, new GatewayWorker(testOptions(place, 'gateway')))
  await until(() => gateway.directory.member(gateway.publicKey) !== undefined, 'the gateway has joined')
  await gateway.stop()
  await auth.stop()
  return { place, publicKey: auth.publicKey }
}

for (const [way, move] of Object.entries(WAYS)) {
  test(`a home moved by ${way}: up, status and doctor say so, adopt goes on`, { timeout: 60_000 }, async (t) => {
    const { place } = await home(t)
    const moved = `${place}-moved`
    move(place, moved)
    rmSync(place, { recursive: true })
    const says = async (...command: string[]): Promise<void> => {
      const { code, stderr } = await infermesh([...command, '--json'], { home: moved })
      t.is(code, 78, stderr)
      const { error } = JSON.parse(stderr)
      t.is(error.code, 'STORE_INVALID')
      t.alike(error.details.moved.sort(), ['auth-auth', 'gateway-gateway'], command[0])
      t.ok(error.message.includes('infermesh adopt'), error.message)
    }
    const [doctor] = await Promise.all([
      infermesh(['doctor', '--json'], { home: moved }),
      says('up', '--no-check'),
      says('status'),
    ])
    const { findings } = JSON.parse(doctor.stdout)
    const found = findings.find(({ check }: { check: string }) => check === 'stores')
    t.is(found?.state, 'fail')
    t.ok(found?.advice.includes('infermesh adopt'))

    const adopted = await infermesh(['adopt', '--json'], { home: moved })
    t.is(adopted.code, 0, adopted.stderr)
    t.alike(JSON.parse(adopted.stdout).adopted.sort(), ['auth-auth', 'gateway-gateway'])
    const auth = await startAuth(t, moved)
    t.ok(auth.directory.core.fork > 0, 'what others may have more of is not written on')
    const gateway = await start(t, new GatewayWorker(testOptions(moved, 'gateway')))
    const authority = await startStranger(t, moved, auth.publicKey)
    const { users } = await authority.call('users.list', {}, { key: adminKey(moved) })
    t.is(users.length, 1)
    await authority.close()
    await gateway.stop()
    const { stdout } = await infermesh(['adopt'], { home: moved })
    t.ok(stdout.includes('Nothing'), 'a home in its place is left alone')
  })
}

test('a home that mv moved on one disk starts as it is', { timeout: 60_000 }, async (t) => {
  const { place, publicKey } = await home(t)
  renameSync(place, `${place}-moved`)
  const auth = await startAuth(t, `${place}-moved`)
  t.is(auth.publicKey, publicKey)
  t.is(auth.directory.core.fork, 0)
})

test('a copy is not adopted while its original answers, but by force', { timeout: 60_000 }, async (t) => {
  const { place } = await home(t)
  const copy = `${place}-copy`
  run('cp', ['-a', place, copy])
  const auth = await startAuth(t, place)
  const refused = await infermesh(['adopt'], { home: copy })
  t.is(refused.code, 64, refused.stderr)
  t.ok(refused.stderr.includes('The original runs'), refused.stderr)
  t.is((await infermesh(['doctor'], { home: copy })).code, 69)
  await auth.stop()
  t.is((await infermesh(['adopt'], { home: copy })).code, 0)
  run('cp', ['-a', place, `${copy}-2`])
  const again = await startAuth(t, place)
  t.is((await infermesh(['adopt', '--force'], { home: `${copy}-2` })).code, 0)
  await again.stop()
})
