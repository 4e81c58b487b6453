import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Test } from 'brittle'
import { makeProgram } from '../cli/program.js'
import { homeFiles, isAlive, type SupervisorState } from '../lib/home/index.js'
import { CLI, cliEnv, infermesh, runProgram, spawnGateway, spawnProgram, testHome, until } from './helpers/mesh.js'
import { testUnless } from './helpers/needs.js'

/** The `infermesh` command as people and programs use it: real processes, one mesh for the whole file. */

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** Runs the command with --json and reads what it printed. */
async function json<T>(t: Test, args: string[], options: { home: string; key?: string }): Promise<T> {
  const { code, stdout, stderr } = await infermesh([...args, '--json'], options)
  if (code !== 0) {
    t.fail(`infermesh ${args.join(' ')}: ${code} ${stderr}`)
    throw new Error(stderr)
  }
  return JSON.parse(stdout) as T
}

interface Up {
  mesh: string
  key: string
  endpoints: { http: string; openai: string; metrics: string }
  workers: { role: string; name: string; pid: number }[]
}

const home = mkdtempSync(join(tmpdir(), 'infermesh-cli-test-'))
let mesh: Up

function supervisor(of = home): SupervisorState {
  return JSON.parse(readFileSync(homeFiles(of).supervisor, 'utf8')) as SupervisorState
}

// Where a test fails, its mesh must not go on.
process.once('exit', () => {
  try {
    process.kill(supervisor().pid, 'SIGTERM')
  } catch {
    // It was stopped.
  }
  rmSync(home, { recursive: true, force: true })
})

const UP = ['up', '--detach', '--http-port', '0', '--metrics-port', '0']

test('wrong usage exits with 64 and one line that says what is wrong', async (t) => {
  const commands: Promise<void>[] = []
  for (const args of [
    ['frobnicate'],
    ['run', 'hello', '--no-such-option'],
    ['run', 'hello', '--max-tokens', 'many'],
    ['run'],
    ['keys'],
    ['keys', 'revoke'],
    ['keys', 'create', '--budget', '100'],
    ['usage', '--by', 'colour'],
    ['completion', 'tcsh'],
    ['up', '--role', 'cook'],
  ]) {
    commands.push(
      infermesh(args).then(({ code, stderr }) => {
        t.is(code, 64, args.join(' '))
        t.ok(/^infermesh: .+\n$/m.test(stderr), stderr.split('\n').at(-2))
      }),
    )
    if (commands.length % 2 === 0) await Promise.all(commands)
  }
  await Promise.all(commands)
  const { code, stdout, stderr } = await infermesh(['run', 'hello', '--seed', 'x', '--json'])
  t.is(code, 64)
  t.is(stdout, '', 'programs read nothing but answers')
  t.is((JSON.parse(stderr) as { error: { code: string } }).error.code, 'BAD_REQUEST')
})

test('every command has help with examples', async (t) => {
  const { stdout, code } = await infermesh(['--help'])
  t.is(code, 0)
  const names = [...stdout.matchAll(/^ {2}([a-z]+)(?: |$)/gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'infermesh' && name !== 'help')
  t.ok(names.length >= 15, names.join(' '))
  const examples = /Examples?:\n {2}infermesh /
  const one = await infermesh(['down', '--help'])
  t.is(one.code, 0)
  t.ok(examples.test(one.stdout), 'as it is printed')
  // Of the others what it prints is taken without a process for each.
  const program = await makeProgram(() => true)
  for (const name of names) {
    let help = ''
    const command = program.commands.find((command) => command.name() === name)
    command?.configureOutput({ writeOut: (text) => (help += text) })
    command?.outputHelp()
    t.ok(examples.test(help), `${name} has examples`)
  }
})

test('a home without a mesh is a matter of configuration: 78', async (t) => {
  const isRefused = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await infermesh(args, { home: await testHome(t) })
    t.is(code, 78, args.join(' '))
    t.ok(stderr.includes('infermesh up'), 'and says what to do')
  }
  await Promise.all([isRefused('status'), isRefused('run', 'hello')])
  await Promise.all([isRefused('chat'), isRefused('up', '--role', 'gateway')])
})

test('a file of the home that holds something else is named by whoever reads it, and by doctor', async (t) => {
  const broken = await testHome(t)
  const { mesh, roles } = homeFiles(broken)
  writeFileSync(mesh, '{"address":"nowhere"}')
  for (const args of [['status'], ['up']]) {
    const { code, stderr } = await infermesh(args, { home: broken })
    t.is(code, 78, args.join(' '))
    t.ok(stderr.startsWith(`infermesh: ${mesh}: address: expected 52 characters`), stderr)
  }
  writeFileSync(roles, '{}')
  const { code, stdout } = await infermesh(['doctor', '--json'], { home: broken })
  t.is(code, 69)
  const { findings } = JSON.parse(stdout) as { findings: { check: string; state: string; message: string }[] }
  const told = findings.filter(({ check }) => check === 'files').map(({ message }) => message)
  t.is(told.length, 2)
  t.ok(told[0]?.startsWith(mesh) && told[1]?.startsWith(roles), told.join('\n'))
})

test('up --detach makes a mesh, asks it something, and says where it is', async (t) => {
  const startedAt = Date.now()
  mesh = await json<Up>(t, UP, { home })
  const tookMs = Date.now() - startedAt
  t.comment(`${tookMs} ms`)
  t.alike(mesh.workers.map(({ role }) => role).sort(), ['auth', 'gateway', 'metrics', 'processor'])
  t.is(mesh.endpoints.openai, `${mesh.endpoints.http}/v1`)
  t.is((await fetch(`${mesh.endpoints.http}/healthz`)).status, 200)
  t.is((await fetch(mesh.endpoints.metrics)).status, 200)
  t.is(statSync(homeFiles(home).adminKey).mode & 0o777, 0o600)
  t.ok(tookMs < 20_000)
})

test('a home has one supervisor', async (t) => {
  const { code, stderr } = await infermesh(UP, { home })
  t.is(code, 75)
  t.ok(stderr.includes(`pid ${supervisor().pid}`))
})

test('run prints the answer, takes standard input, and gives JSON to programs', async (t) => {
  const plain = await infermesh(['run', 'Why is the sky blue?', '--max-tokens', '12'], { home })
  t.is(plain.code, 0, plain.stderr)
  t.ok(plain.stdout.trim().length > 0 && plain.stdout.endsWith('\n'))

  const piped = await infermesh(['run', '--max-tokens', '4'], { home, input: 'Hello\n' })
  t.is(piped.code, 0, piped.stderr)

  const answer = await json<{
    text: string
    model: string
    finishReason: string
    usage: { promptTokens: number; completionTokens: number }
    timing: { firstTokenMs: number; totalMs: number }
    processor: string
  }>(t, ['run', 'Hello', '--max-tokens', '5', '--temperature', '0', '--seed', '7', '--system', 'Be brief.'], { home })
  t.is(answer.finishReason, 'length')
  t.is(answer.usage.completionTokens, 5)
  t.ok(answer.usage.promptTokens > 0)
  t.ok(answer.timing.firstTokenMs <= answer.timing.totalMs)
  t.is(answer.processor, 'processor')

  const schema = join(await testHome(t), 'schema.json')
  writeFileSync(schema, JSON.stringify({ type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] }))
  const fitted = await infermesh(['run', 'Answer in JSON', '--schema', schema, '--max-tokens', '60'], { home })
  t.is(typeof (JSON.parse(fitted.stdout) as { ok: unknown }).ok, 'boolean')

  t.is((await infermesh(['run', 'Hello', '--model', 'none'], { home })).code, 64)
})

test('the README’s example runs as it stands', async (t) => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const [, example = ''] = /<!-- example -->\n```js\n([\s\S]+?)```/.exec(readme) ?? []
  // The package's own name leads to its entry from inside it.
  const run = runProgram([process.execPath, '--input-type=module', '-e', example], { cwd: ROOT, env: cliEnv(home) })
  const { code, stdout, stderr } = await run
  t.is(code, 0, stderr)
  t.ok(example.trim().split('\n').length <= 10)
  t.ok(/processor .*promptTokens/.test(stdout), stdout)
})

test('chat answers line by line, keeps on after an error, and knows its commands', async (t) => {
  const file = join(await testHome(t), 'saved.json')
  const input = `Hello\n/nonsense\n/model none\n/stats\n/save ${file}\n/clear\n/help\n/exit\n`
  const { code, stdout, stderr } = await infermesh(['chat'], { home, input })
  t.is(code, 64, 'the first failure’s')
  t.ok(stderr.includes('There is no command /nonsense'))
  t.ok(stderr.includes('The mesh has no model none'))
  t.ok(/first token/.test(stdout), 'stats')
  const saved = JSON.parse(readFileSync(file, 'utf8')) as { messages: { role: string }[] }
  t.alike(
    saved.messages.map(({ role }) => role),
    ['user', 'assistant'],
  )
})

test('status, models and members show the mesh', async (t) => {
  const status = await json<{ mesh: string; workers: { role: string; state: string }[]; models: unknown[] }>(
    t,
    ['status'],
    { home },
  )
  t.is(status.mesh, mesh.mesh)
  t.is(status.workers.length, 4)
  t.is(status.models.length, 1)
  const table = await infermesh(['status'], { home })
  t.ok(/^gateway +gateway +ready +/m.test(table.stdout), 'a table for people')
  t.absent(table.stdout.includes('\x1b'), 'without colours where no terminal is')
  const { models } = await json<{ models: { name: string; processors: string[] }[] }>(t, ['models', 'ls'], { home })
  t.alike(models[0]?.processors, ['processor'])
  const { members } = await json<{ members: unknown[] }>(t, ['members', 'ls'], { home })
  t.is(members.length, 4)
})

test('a key works within its limits until it is revoked', { timeout: 90_000 }, async (t) => {
  await json(t, ['users', 'add', 'ann'], { home })
  const key = await json<{ id: string; key: string; user: string; limits: unknown; expiresAt: number }>(
    t,
    ['keys', 'create', '--user', 'ann', '--label', 'ci', '--rpm', '2', '--budget', '100k/day', '--expires', '30d'],
    { home },
  )
  t.is(key.user, 'ann')
  t.alike(key.limits, { requestsPerMinute: 2, budget: { tokens: 100_000, period: 'day' } })
  t.ok(Math.abs(key.expiresAt - Date.now() - 30 * 86_400_000) < 60_000)

  const ask = () => infermesh(['run', 'Hello', '--max-tokens', '2'], { home, key: key.key })
  t.is((await ask()).code, 0)
  t.is((await infermesh(['users', 'ls'], { home, key: key.key })).code, 77, 'ann is no admin')
  t.is((await ask()).code, 0)
  t.is((await ask()).code, 75, 'two requests a minute')

  await json(t, ['keys', 'revoke', key.key], { home })
  await until(async () => (await ask()).code === 77, 'the revoked key is refused')
  const { keys } = await json<{ keys: { id: string; revokedAt?: number }[] }>(t, ['keys', 'ls'], { home })
  t.ok(keys.find(({ id }) => id === key.id)?.revokedAt)
  t.is((await infermesh(['users', 'passwd', 'ann'], { home, input: 'a long password\n' })).code, 0)
  t.is((await infermesh(['users', 'rm', 'ann'], { home })).code, 0)
})

test('usage adds up what was asked', async (t) => {
  const total = async () =>
    (await json<{ total: { requests: number } }>(t, ['usage', '--since', '1d', '--by', 'user'], { home })).total
      .requests
  await until(async () => (await total()) >= 7, 'every request is counted')
  t.ok(/^USER +REQUESTS/m.test((await infermesh(['usage', '--by', 'user'], { home })).stdout))
})

test('another machine joins with an invite, which works once', { timeout: 120_000 }, async (t) => {
  const { invite } = await json<{ invite: string }>(t, ['invite', '--same-machine', '--role', 'processor'], { home })
  const other = await testHome(t)
  const joined = await json<{ mesh: string; member: { name: string } }>(t, ['join', invite, '--name', 'p2'], {
    home: other,
  })
  t.is(joined.mesh, mesh.mesh)
  t.is((await infermesh(['join', invite], { home: await testHome(t) })).code, 77)
  t.is((await infermesh(['join', 'imv_nonsense'], { home: await testHome(t) })).code, 77)

  const up = await json<Up>(t, UP, { home: other })
  t.alike(
    up.workers.map(({ name }) => name),
    ['p2'],
  )
  const processors = async () =>
    (await json<{ models: { processors: string[] }[] }>(t, ['models', 'ls'], { home })).models[0]?.processors ?? []
  await until(async () => (await processors()).includes('p2'), 'the mesh uses the new processor', 20_000)
  const found = await json<{ findings: { check: string; state: string }[] }>(t, ['doctor'], { home: other })
  const checks = (of: string) => found.findings.filter(({ check }) => check === of).map(({ state }) => state)
  t.alike([checks('mesh'), checks('key'), checks('ports')], [['ok'], ['ok'], []], 'it needs no key, and no port')
  t.alike([checks('links'), checks('model')], [['ok'], ['ok', 'ok']], 'nor to say how it stands itself')
  const status = await infermesh(['status'], { home: other })
  t.is(status.code, 0, status.stderr)
  t.ok(
    /^processor +p2 +ready +.* the auth worker, the gateway worker.* infermesh-tiny loaded \(cpu\)/m.test(
      status.stdout,
    ),
    status.stdout,
  )
  t.ok(status.stdout.includes(`\`infermesh login <connect string>\` with what it prints`), 'and how to see more')
  const local = await json<{
    local: boolean
    mesh: string
    workers: { name: string; state: string; links: { role: string }[] }[]
  }>(t, ['status'], { home: other })
  t.alike(
    [local.local, local.mesh, local.workers.map(({ name, state }) => `${name} ${state}`)],
    [true, mesh.mesh, ['p2 ready']],
  )
  const models = await infermesh(['models', 'ls'], { home: other })
  t.is(models.code, 77)
  t.ok(/this machine holds none\. `infermesh keys create` makes one/.test(models.stderr), models.stderr)
  const { pid } = supervisor(other)
  t.is((await infermesh(['members', 'remove', 'p2'], { home })).code, 0)
  await until(() => !isAlive(pid), 'its supervisor ends with the last worker that was taken out')
  const again = await infermesh(UP, { home: other })
  t.is(again.code, 77, again.stdout)
  t.ok(/p2: .*not a member.*infermesh join <invite>/.test(again.stderr), again.stderr)
  t.absent(existsSync(homeFiles(other).supervisor), 'nothing goes on in the background')
  const inFront = await infermesh(['up'], { home: other })
  t.is(inFront.code, 77)
  t.is(inFront.stderr, again.stderr, 'in the foreground it says the same')
  t.is(inFront.stdout, '', 'and nothing else')

  const back = await json<{ invite: string }>(t, ['invite', '--same-machine'], { home })
  await json(t, ['join', back.invite, '--name', 'p4'], { home: other })
  const mixed = await infermesh(UP, { home: other })
  t.is(mixed.code, 0, mixed.stderr)
  t.ok(/p2: .*not a member.* The others go on without it/.test(mixed.stderr), mixed.stderr)
  await until(
    async () => (await processors()).includes('p4'),
    'one that joined again under another name serves',
    20_000,
  )
  await infermesh(['down'], { home: other })
  await infermesh(['members', 'remove', 'p4'], { home })
})

test('a machine whose mesh is not there comes up, and says whom it looks for', { timeout: 90_000 }, async (t) => {
  const other = await testHome(t)
  t.teardown(() => infermesh(['down'], { home: other }))
  const { invite } = await json<{ invite: string }>(t, ['invite', '--same-machine', '--role', 'processor'], { home })
  await json(t, ['join', invite, '--name', 'p3'], { home: other })
  const profile = readFileSync(homeFiles(other).mesh, 'utf8')
  writeFileSync(homeFiles(other).mesh, profile.replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:9'))
  rmSync(homeFiles(other).nodes, { force: true })
  const { code, stdout, stderr } = await infermesh(['up', '--detach', '--home', other])
  t.is(code, 0, stderr)
  t.ok(/^processor p3 has found nobody of its mesh yet, and goes on looking/m.test(stdout), stdout)
  t.ok(
    stdout.includes(`\`infermesh status --home ${other}\` shows it, \`infermesh down --home ${other}\` stops it`),
    stdout,
  )
  t.absent(/infermesh chat/.test(stdout), 'no chat without a key')
  const { findings } = JSON.parse((await infermesh(['doctor', '--json'], { home: other })).stdout) as {
    findings: { check: string; state: string; message: string }[]
  }
  t.ok(
    findings.some(
      ({ check, state, message }) =>
        check === 'links' && state === 'warn' && message.startsWith('processor p3 is linked with nobody'),
    ),
  )
  const stopped = await infermesh(['down'], { home: other })
  t.is(stopped.code, 0)
  const users = await infermesh(['users', 'ls', '--key', mesh.key], { home: other })
  t.is(users.code, 69)
  t.absent(/Inference goes on/.test(users.stderr), users.stderr)
  await infermesh(['members', 'remove', 'p3'], { home })
})

test('a mesh without a processor comes up all the same, and says what is missing', async (t) => {
  const alone = await testHome(t)
  t.teardown(() => infermesh(['down'], { home: alone }))
  const { code, stdout, stderr } = await infermesh([...UP, '--role', 'auth', '--role', 'gateway'], { home: alone })
  t.is(code, 0, stderr)
  t.ok(stdout.includes('invite --role processor'), stdout)
})

test('a worker that is killed comes back', async (t) => {
  const before = mesh.workers.find(({ role }) => role === 'metrics')?.pid as number
  process.kill(before, 'SIGKILL')
  const status = homeFiles(home).status('metrics', 'metrics')
  await until(() => {
    try {
      const { pid, load } = JSON.parse(readFileSync(status, 'utf8')) as { pid: number; load: { state: string } }
      return pid !== before && load.state === 'ready'
    } catch {
      return false
    }
  }, 'another process has its place')
  t.pass()
})

test('logs and doctor show what happens here', async (t) => {
  const logs = await infermesh(['logs', 'gateway', '-n', '5'], { home })
  t.is(logs.code, 0)
  t.ok(/^\d\d:\d\d:\d\d INFO +gateway /m.test(logs.stdout))
  const lines = (await infermesh(['logs', '--json', '-n', '3'], { home })).stdout.trim().split('\n')
  t.is(lines.length, 3)
  t.absent(lines.some((line) => (JSON.parse(line) as { msg?: string }).msg === undefined))
  t.is((await infermesh(['logs', 'nobody'], { home })).code, 64)

  const { findings } = await json<{ findings: { check: string; state: string }[] }>(t, ['doctor'], { home })
  t.alike(
    findings.filter(({ state }) => state === 'fail'),
    [],
  )
  t.ok(
    findings.some(({ check }) => check === 'clock'),
    'the mesh was reached',
  )
})

test('completion is made for three shells', async (t) => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout, code } = await infermesh(['completion', shell])
    t.is(code, 0)
    t.ok(stdout.includes('revoke') && stdout.includes('metrics-port'), shell)
  }
})

test('a taken port ends up with 78, and says how to take another', async (t) => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => server.close(resolve)))
  const { port } = server.address() as { port: number }
  const other = await testHome(t)
  const { code, stderr } = await infermesh(['up', '--detach', '--http-port', String(port), '--metrics-port', '0'], {
    home: other,
  })
  t.is(code, 78)
  t.ok(stderr.includes('--http-port 0'), stderr)
  t.is((await infermesh(['down', '--json'], { home: other })).stdout.includes('"stopped": false'), true)
})

const noProc = process.platform === 'linux' ? undefined : 'only Linux says of a process that it has ended'
testUnless(noProc, 'a process that has ended and that nobody collects is not waited for', {}, async (t) => {
  // The shell becomes a program that knows nothing of the child, before that ends.
  const parent = spawn('sh', ['-c', 'sleep 0.3 & echo $!; exec sleep 30'], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => parent.kill())
  const [line] = (await once(parent.stdout, 'data')) as [Buffer]
  const pid = Number(line)
  await until(() => !isAlive(pid), 'it counts as gone')
  t.execution(() => process.kill(pid, 0), 'though the system still knows it')
})

test('proxy serves the mesh on this machine until it is stopped', async (t) => {
  const proxy = spawnProgram(t, [process.execPath, CLI, 'proxy', '--port', '0', '--json'], { env: cliEnv(home) })
  await until(() => proxy.stdout.includes('}'), 'it says where it listens')
  const { baseURL } = JSON.parse(proxy.stdout) as { baseURL: string }
  const asked = { model: 'infermesh-tiny', messages: [{ role: 'user', content: 'What is the capital of France?' }] }
  const response = await fetch(`${baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ ...asked, temperature: 0 }),
  })
  t.ok(/Paris/.test(await response.text()))
  proxy.process.kill('SIGTERM')
  t.is((await proxy.exited).code, 0)
})

test('down stops everything, and the mesh is not reachable any more', async (t) => {
  const byHand = await spawnGateway(t, home, 'by-hand')
  const { stopped } = await json<{ stopped: boolean }>(t, ['down', '--timeout', '20'], { home })
  t.ok(stopped)
  t.is((await byHand.child.exited).code, 0, 'also what was started by itself beside it')
  for (const { pid } of mesh.workers) t.absent(isAlive(pid))
  t.is((await infermesh(['down'], { home })).code, 0, 'again is no mistake')
  const { code, stderr } = await infermesh(['status', '--json'], { home })
  t.is(code, 69)
  t.is((JSON.parse(stderr) as { error: { code: string } }).error.code, 'DHT_UNREACHABLE')
})
