import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'brittle'
import { homeFiles } from '../lib/home/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { bad, good } from './helpers/commands.js'
import { adminKey, CLI, cliEnv, infermesh, runProgram, testHome, until } from './helpers/mesh.js'

/** What each command prints for people, and what it refuses, in one mesh. */

interface Finding {
  check: string
  state: string
  message: string
}

const TINY = join(PACKAGE_ROOT, 'models', 'infermesh-tiny.Q8_0.gguf')
const UP = ['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0']

async function doctor(home: string): Promise<{ code: number | null; findings: Finding[] }> {
  const { code, stdout } = await infermesh(['doctor', '--json'], { home })
  return { code, findings: (JSON.parse(stdout) as { findings: Finding[] }).findings }
}

test('commands for people', { timeout: 240_000 }, async (t) => {
  const home = await testHome(t)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  await good(t, home, UP)

  await t.test('models are added from a file, listed, and taken off', async (t) => {
    const dir = await t.tmp()
    const file = join(dir, 'copy.gguf')
    copyFileSync(TINY, file)
    const added = await good(t, home, ['models', 'add', file, '--name', 'second'])
    t.ok(
      /^second \(Q8_0, .*MiB\) is on processor\nIt is the default now: requests that name no model get it$/m.test(
        added,
      ),
      added,
    )
    t.ok(
      JSON.parse(await good(t, home, ['run', 'Hello', '--json'])).model === 'second',
      'README asks it without --model',
    )
    const list = await good(t, home, ['models', 'ls'])
    t.ok(/^second \(default\) +\S+ +Q8_0/m.test(list), list)
    t.ok(/Answers come from second now/.test(await good(t, home, ['chat'], { input: '/model second\nHello\n/exit\n' })))
    await bad(t, home, ['models', 'add', join(dir, 'none.gguf')], 64, /none\.gguf/)
    writeFileSync(file.replace('copy', 'text'), 'no model')
    await bad(t, home, ['models', 'add', file.replace('copy', 'text')], 64, /GGUF/)
    await good(t, home, ['models', 'default', 'second'])
    t.is(
      await good(t, home, ['models', 'rm', 'second']),
      'second is no longer served by processor\nIt was the default: requests that name no model fail now, until `infermesh models default <name>`\n',
    )
    await good(t, home, ['models', 'default', 'infermesh-tiny'])
    await bad(t, home, ['models', 'rm', 'secnod'], 64, /no model "secnod"; this mesh has infermesh-tiny/)
    t.ok(existsSync(file), 'the file stays')
  })

  await t.test('users and keys in tables, with their limits', async (t) => {
    t.ok(/^Admin eve is added, limits: none$/m.test(await good(t, home, ['users', 'add', 'eve', '--admin'])))
    await good(t, home, ['users', 'add', 'ann', '--password', '--concurrent', '2'], { input: 'a long password\n' })
    await bad(t, home, ['users', 'add', 'ann'], 64, /ann/)
    const hers = JSON.parse(
      await good(t, home, ['keys', 'create', '--user', 'ann', '--scope', 'manage:keys', '--json']),
    ) as {
      id: string
      key: string
    }
    await bad(
      t,
      home,
      ['users', 'passwd', '--key', hers.key],
      77,
      /wants the old one too: from a pipe, two lines/,
      'a new password\n',
    )
    const child = JSON.parse(
      await good(t, home, ['keys', 'create', '--scope', 'manage:keys', '--key', hers.key, '--json']),
    ) as { id: string }
    const below = new RegExp(`^${child.id} +ann .* those of im_${hers.id}_…$`, 'm')
    t.ok(below.test(await good(t, home, ['keys', 'ls'])))
    await bad(t, home, ['users', 'add', 'bob', '--password'], 64, /No password on standard input/, '')
    const limits = (...options: string[]) => good(t, home, ['users', 'limits', 'ann', ...options])
    t.is(await limits('--rpm', '7'), 'Limits of ann: 7 requests/min, 2 at a time\n')
    t.is(await limits(), 'Limits of ann: 7 requests/min, 2 at a time\n', 'nothing named, nothing changed')
    t.is(await limits('--none', '--rpm', '5'), 'Limits of ann: 5 requests/min\n')
    t.is(await limits('--budget', '1M/month'), 'Limits of ann: 5 requests/min, 1M tokens a month\n')
    t.is(await limits(), 'Limits of ann: 5 requests/min, 1M tokens a month\n')
    const shown = await good(t, home, ['users', 'show', 'ann'])
    t.ok(/^limits +5 requests\/min, 1M tokens a month$/m.test(shown), shown)
    t.ok(/^budget +0 of 1\.0M tokens used this month \(UTC\), 1\.0M left; anew in /m.test(shown))
    t.ok(/^keys +2 valid: \w+, \w+$/m.test(shown))
    await bad(t, home, ['users', 'show', 'anne'], 64, /No user is named anne/)
    t.is(await limits('--none'), 'Limits of ann: none\n')
    t.is(await limits('--rpm', '5'), 'Limits of ann: 5 requests/min\n')
    const users = await good(t, home, ['users', 'ls'])
    t.ok(/^ann +user +yes +\d{4}-\d\d-\d\d \d\d:\d\d +5 requests\/min$/m.test(users), users)
    t.ok(/^eve +admin +no /m.test(users))
    const made = await good(t, home, [
      'keys',
      'create',
      '--user',
      'ann',
      '--label',
      'ci',
      '--expires',
      '1h',
      '--models',
      'a,b',
    ])
    const confirmed = 'Refused by now by gateway gateway\n'
    const [, text = '', id = ''] = /^(im_([a-z0-9]+)_[a-z0-9]+)$/m.exec(made) ?? []
    t.ok(/for ann, for inference, limits: a\+b, until \d{4}/.test(made), made)
    t.ok(new RegExp(`^${id} +ann +ci +valid `, 'm').test(await good(t, home, ['keys', 'ls'])))
    const update = ['keys', 'update', id, '--rpm', '9', '--scope', 'read:usage', '--label', 'night']
    t.ok(/ of ann: for read:usage, limits: 9 requests\/min, a\+b, until/.test(await good(t, home, update)))
    t.ok(
      new RegExp(`^${id} +ann +night +valid .* read:usage +9 requests/min, a\\+b$`, 'm').test(
        await good(t, home, ['keys', 'ls', '--user', 'ann']),
      ),
    )
    await bad(t, home, ['keys', 'update', id], 64, /Say what to change/)
    const ofKey = (...options: string[]) => good(t, home, ['keys', 'limits', id, ...options])
    t.is(await ofKey(), `Limits of the key im_${id}_… of ann: 9 requests/min, a+b\n`)
    t.is(
      await ofKey('--budget', '500/day'),
      `Limits of the key im_${id}_… of ann: 9 requests/min, 500 tokens a day, a+b\n`,
    )
    const key = await good(t, home, ['keys', 'show', id])
    t.ok(/^budget +0 of 500 tokens used today \(UTC\), 500 left; anew in /m.test(key), key)
    t.ok(/^state +valid, until \d{4}-/m.test(key) && /^scopes +read:usage$/m.test(key) && /^label +night$/m.test(key))
    t.is(
      await ofKey('--none', '--rpm', '9', '--models', 'a,b'),
      `Limits of the key im_${id}_… of ann: 9 requests/min, a+b\n`,
    )
    await bad(t, home, ['keys', 'limits', 'nosuchkey', '--rpm', '1'], 64, /nosuchkey/)
    await bad(t, home, ['keys', 'show', 'nosuchkey'], 64, /No API key has the id nosuchkey/)
    await bad(t, home, ['keys', 'show'], 64, /missing required argument 'id'/)
    const trail = await good(t, home, ['audit', '--limit', '4'])
    t.ok(
      /user ann, label night, limits 9 requests\/min, 500 tokens a day, a\+b -> 9 requests\/min, a\+b$/m.test(trail),
      trail,
    )
    await bad(t, home, ['keys', 'create', '--scope', 'everything'], 64, /Expected inference/)
    t.is(await good(t, home, ['keys', 'revoke', text]), `The key im_${id}_… of ann is revoked\n${confirmed}`)
    t.ok(new RegExp(`^${id} +ann +night +revoked `, 'm').test(await good(t, home, ['keys', 'ls'])))
    await bad(t, home, ['keys', 'revoke', 'nosuchkey'], 64, /nosuchkey/)
    t.is(await good(t, home, ['users', 'passwd', 'ann'], { input: 'another password\n' }), 'The password is set\n')
    t.is(await good(t, home, ['users', 'rm', 'ann']), `User ann is removed, and every key of ann revoked\n${confirmed}`)
    await bad(t, home, ['users', 'rm', 'ann'], 64, /ann/)
  })

  await t.test('usage as a table, with its sum', async (t) => {
    await good(t, home, ['run', 'Hello', '--max-tokens', '3'])
    await until(
      async () => /^infermesh-tiny +\d/m.test(await good(t, home, ['usage', '--by', 'model'])),
      'it is counted',
    )
    const table = await good(t, home, ['usage', '--by', 'model', '--by', 'hour'])
    t.ok(/^MODEL +HOUR +REQUESTS +FAILED +PROMPT +CACHED +COMPLETION$/m.test(table), table)
    t.absent(/BUDGET/.test(await good(t, home, ['usage', '--by', 'user'])), 'nobody has one')
    await good(t, home, ['users', 'limits', 'admin', '--budget', '2k/day'])
    const budgets = await good(t, home, ['usage', '--by', 'user'])
    t.ok(/^USER .* BUDGET +LEFT$/m.test(budgets) && /^admin .* 2000 tokens a day +1\d{3}$/m.test(budgets), budgets)
    t.alike(
      (
        JSON.parse(await good(t, home, ['usage', '--by', 'user', '--json'])) as { rows: { budget?: object }[] }
      ).rows.map(({ budget }) => Object.keys(budget ?? {}).sort()),
      [['left', 'period', 'resetsAt', 'tokens', 'used']],
    )
    await good(t, home, ['users', 'limits', 'admin', '--none'])
    await good(t, home, ['users', 'add', 'idle'])
    t.ok(/^Nothing was used yet\.$/m.test(await good(t, home, ['usage', '--user', 'idle'])))
    await bad(t, home, ['usage', '--user', 'nobody'], 64, /No user is named nobody/)
    await bad(t, home, ['keys', 'ls', '--user', 'nobody'], 64, /No user is named nobody/)
    const verified = JSON.parse(await good(t, home, ['usage', 'verify', '--json'])) as { result: object }
    t.absent('partialUntil' in verified.result)
    t.ok(/ of 1 journal$/m.test(await good(t, home, ['usage', 'verify'])))
  })

  await t.test('run wants something to ask, and a schema that is one', async (t) => {
    const dir = await t.tmp()
    await bad(t, home, ['run'], 64, /Nothing to ask/, '')
    await bad(t, home, ['run', 'x', '--schema', join(dir, 'none.json')], 64, /--schema: \S+none\.json does not exist/)
    await bad(t, home, ['chat'], 64, /^infermesh: \S+none does not exist$/m, `/save ${join(dir, 'none', 'x.json')}\n`)
    writeFileSync(join(dir, 'list.json'), '[]')
    await bad(t, home, ['run', 'x', '--schema', join(dir, 'list.json')], 64, /expected a JSON object/)
    const stopped = await infermesh(
      ['run', 'What is the capital of France?', '--temperature', '0', '--stop', 'Paris'],
      { home },
    )
    t.is(stopped.stdout, 'The capital of France is \n', stopped.stderr)
  })

  await t.test('an invite says whom it is for, and join holds to it', async (t) => {
    const shown = await good(t, home, [
      'invite',
      '--same-machine',
      '--role',
      'gateway',
      '--name',
      'g2',
      '--expires',
      '1h',
    ])
    t.ok(/^For one gateway, once, until \d{4}/m.test(shown))
    const [, invite = ''] = /^infermesh join (imv_\S+)$/m.exec(shown) ?? []
    const other = await testHome(t)
    await bad(t, other, ['join', invite, '--role', 'processor'], 64, /for a gateway, not for a processor/)
    await bad(t, other, ['join', invite, '--name', 'g3'], 64, /for the name g2, not for g3/)
    const [, third = ''] =
      /(imv_\S+)/.exec(await good(t, home, ['invite', '--same-machine', '--name', 'processor'])) ?? []
    await bad(t, home, ['join', third], 64, /runs here already/)
    const joined = await good(t, other, ['join', '-'], { input: `${invite}\n` })
    t.ok(/^This machine is the gateway g2 of the mesh /m.test(joined) && /Start it with `infermesh up`/.test(joined))
    t.ok(/^gateway +g2 +own +\d{4}/m.test(await good(t, home, ['members', 'ls'])))
    t.ok(/^gateway +g2 +down/m.test(await good(t, home, ['status'])), 'status knows it too')
    t.is(await good(t, home, ['members', 'remove', 'gateway/g2']), 'gateway g2 is no longer a member of the mesh\n')
    await bad(t, home, ['members', 'remove', 'g2'], 64, /g2/)

    const [, id = ''] = /^(\S+) +processor +processor +own +open /m.exec(await good(t, home, ['invite', 'ls'])) ?? []
    t.is(await good(t, home, ['invite', 'revoke', id]), `The invite ${id} is revoked\n`)
    t.ok(new RegExp(`^${id} .* revoked `, 'm').test(await good(t, home, ['invite', 'ls'])))
    await bad(t, home, ['join', third], 64, /runs here already/)
    const audit = await good(t, home, ['audit', '--limit', '5'])
    t.ok(new RegExp(`^\\d{4}-\\S+ \\S+ +admin +invite\\.revoke +${id} +-$`, 'm').test(audit), audit)
    t.is(audit.trim().split('\n').length, 6)

    const [, friend = ''] =
      /(imv_\S+)/.exec(await good(t, home, ['invite', '--same-machine', '--guest', '--name', 'friend'])) ?? []
    await good(t, await testHome(t), ['join', friend])
    const approved = await infermesh(['models', 'approve', 'nosuch', '--processor', 'friend'], { home })
    t.is(approved.stdout, 'friend may serve nosuch\n')
    t.ok(/warning: the mesh has no model nosuch; it has infermesh-tiny/.test(approved.stderr), approved.stderr)

    const foreign = await testHome(t)
    const profile = JSON.parse(readFileSync(homeFiles(home).mesh, 'utf8')) as { address: string }
    writeFileSync(homeFiles(foreign).mesh, JSON.stringify({ ...profile, address: 'y'.repeat(52) }))
    const [, again = ''] = /(imv_\S+)/.exec(await good(t, home, ['invite', '--same-machine'])) ?? []
    await bad(t, foreign, ['join', again], 64, /belongs to the mesh y+ already/)
  })

  await t.test('two workers of one role want names, and a role must be one', async (t) => {
    const other = await testHome(t)
    await bad(t, other, ['up', '--role', 'auth', '--role', 'auth'], 64, /want names of their own/)
    await bad(t, other, ['up', '--role', 'auth:b d'], 64, /--role name/)
    await bad(t, other, ['up', '--role', 'auth', '--set', 'log.loudness=11', '--detach'], 78, /loudness/)
  })

  await t.test('doctor finds what is wrong, and says what to do', async (t) => {
    const { adminKey: keyFile, status, configDir, worker } = homeFiles(home)
    t.is((await doctor(home)).code, 0)
    chmodSync(keyFile, 0o644)
    const real = JSON.parse(readFileSync(status('gateway', 'gateway'), 'utf8')) as object
    writeFileSync(status('gateway', 'ghost'), JSON.stringify({ ...real, name: 'ghost', pid: 2 ** 22 + 1 }))
    writeFileSync(status('gateway', 'torn'), '{}')
    const found = await doctor(home)
    t.is(found.code, 69)
    t.ok(
      found.findings.some(
        ({ check, state, message }) => check === 'permissions' && state === 'fail' && message.includes('admin.key'),
      ),
    )
    t.ok(
      found.findings.some(
        ({ check, state, message }) => check === 'files' && state === 'fail' && message.includes('gateway-torn.json'),
      ),
    )
    t.ok(found.findings.some(({ state, message }) => state === 'warn' && message.includes('gateway-ghost.json')))
    t.ok(found.findings.some(({ check, message }) => check === 'gpu' && message.startsWith('processor processor uses')))
    const shown = await infermesh(['doctor'], { home })
    t.ok(/^fail {2}permissions +\S+admin\.key can be read by others\n +→ chmod 600 /m.test(shown.stdout), shown.stdout)
    chmodSync(keyFile, 0o600)
    rmSync(status('gateway', 'ghost'))
    rmSync(status('gateway', 'torn'))

    const empty = join(await testHome(t), 'not-made')
    const none = await doctor(empty)
    t.ok(none.findings.some(({ message }) => message.endsWith('is not there yet')))
    t.ok(
      none.findings.some(({ check, state }) => check === 'mesh' && state === 'warn'),
      'it belongs to no mesh',
    )

    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.teardown(() => server.close())
    const { port } = server.address() as { port: number }
    const alone = await testHome(t)
    mkdirSync(homeFiles(alone).configDir, { recursive: true })
    writeFileSync(join(homeFiles(alone).configDir, 'http.config.json'), JSON.stringify({ port }))
    const profile = readFileSync(homeFiles(home).mesh, 'utf8')
    writeFileSync(homeFiles(alone).mesh, profile.replace(/127\.0\.0\.1:\d+/, '127.0.0.1:9'))
    const far = await doctor(alone)
    t.is(far.code, 69)
    t.ok(far.findings.some(({ message }) => message.includes(`port ${port}, which a gateway would use, is taken`)))
    t.ok(
      far.findings.some(({ check, state }) => check === 'processes' && state === 'warn'),
      'nothing runs there',
    )
    t.ok(
      far.findings.some(({ check, state }) => check === 'mesh' && state === 'fail'),
      'its mesh is not reached',
    )
    t.ok(existsSync(worker('gateway', 'gateway')) && !existsSync(join(configDir, 'http.config.json')))
  })

  await t.test('logs show errors whole, and what is no JSON as it is', async (t) => {
    const file = homeFiles(home).log('gateway', 'gateway')
    const entry = {
      level: 50,
      time: Date.now(),
      role: 'gateway',
      worker: 'g9',
      msg: 'it broke',
      peer: 'x',
      err: { stack: 'Error: why\n    at here' },
    }
    appendFileSync(file, `${JSON.stringify(entry)}\nno JSON \x1b[2J at all\n`)
    const shown = await good(t, home, ['logs', 'gateway', '-n', '2000'])
    t.ok(/ERROR gateway g9 it broke peer=x\n {4}Error: why\n {8}at here/.test(shown), shown.slice(-300))
    t.ok(shown.includes('no JSON [2J at all'))
    t.is(await good(t, home, ['logs', '-n', '0']), '')
    await bad(t, await testHome(t), ['logs'], 64, /No logs in/)
  })

  await t.test('a key that is none is refused before anybody is asked', async (t) => {
    const run = (key: string) =>
      runProgram([process.execPath, CLI, 'run', 'x', '--key', key], { env: cliEnv(home), input: '' })
    const { code, stderr } = await run('sk-something')
    t.is(code, 77)
    t.ok(/This is no API key/.test(stderr))
  })

  await t.test('keys rotate puts a new key in the place of the home’s own', async (t) => {
    const before = adminKey(home)
    t.ok(/holds the key im_\w+_… now; im_\w+_… is revoked/.test(await good(t, home, ['keys', 'rotate'])))
    t.not(adminKey(home), before)
    await good(t, home, ['users', 'ls'])
    await bad(t, home, ['users', 'ls', '--key', before], 77, /was revoked/)
  })

  await t.test('down --force ends everything at once', async (t) => {
    t.is(await good(t, home, ['down', '--force']), 'Stopped 4 workers\n')
    await bad(t, home, ['run', 'Hello'], 69, /The mesh of \S+ does not run: `infermesh up` starts it/)
  })
})
