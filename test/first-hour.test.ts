import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { homeFiles } from '../lib/home/index.js'
import { decodeConnectString, decodeInvite } from '../lib/protocol/index.js'
import { assembleClient, CLIENT_DIR, installTarball, pack } from './helpers/installed.js'
import { readStatus, until } from './helpers/mesh.js'
import { killAll, noNamespaces, removeMachines, unplug } from './helpers/namespaces.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { exampleOf, Person } from './helpers/person.js'
import { onTeardown } from './helpers/teardown.js'

/**
 * The README from its first line to the backup, as it is written, on machines of their own: one machine, two, a colleague,
 * a third that nothing is copied to, and what is left when the first is gone.
 */

const ASK = 'infermesh run "Write a haiku about rain"'
const LIST = 'curl -s $OPENAI_BASE_URL/models -H "Authorization: Bearer $OPENAI_API_KEY"'

interface Models {
  models: { processors: string[] }[]
}

interface Usage {
  rows: { user: string; requests: number }[]
}

/** What `keys create` printed for another machine, line by line. */
interface Lines {
  connect: string
  mesh: string
  openai: string | undefined
}

testUnless(
  noNamespaces ?? missingProgram('curl --version'),
  'the first hour: from one machine to two, to a colleague, to a backup, as the README says',
  { timeout: 240_000 },
  async (t) => {
    onTeardown(t, removeMachines)
    const took = stopwatch(t)
    const first = await Person.at(t, 'first', 11)
    const second = await Person.at(t, 'second', 12)
    const ann = await Person.at(t, 'ann', 13)

    // One machine.
    const up = first.begin('infermesh up')
    await first.worker('metrics', 'metrics')
    t.ok((await first.type(ASK)).length > 10, 'it answers')
    t.ok(/Paris/.test(await first.run(['sh', '-c', exampleOf('curl')])), 'over HTTP, too')
    t.ok(up.stdout.includes('first question'), up.stdout)
    const refused = await first.tries('infermesh invite')
    t.is(refused.code, 78)
    t.ok(refused.stderr.includes('`infermesh network lan`'), refused.stderr)
    took('one machine')

    // Two.
    t.ok(/^network +lan/m.test(await first.type('infermesh network lan')))
    const invite = /^infermesh join (imv_\S+)$/m.exec(await first.type('infermesh invite'))?.[1] ?? ''
    t.ok(decodeInvite(invite).profile.network.bootstrap[0]?.startsWith('10.213.7.11:'), 'it names this machine')
    await second.type('infermesh join imv_…', { fill: { 'imv_…': invite }, more: '--name second' })
    let secondUp = second.begin('infermesh up')
    await second.worker('processor', 'second')
    await allServe(t, first, ['processor', 'second'])
    t.ok(/processor +second +ready/.test(await first.type('infermesh status')))
    took('two machines')

    // A colleague.
    await first.type('infermesh users add ann')
    await first.type('infermesh network --http-host 0.0.0.0')
    const { connect, mesh, openai } = await newKey(first)
    t.is(openai?.split(' ')[1], 'OPENAI_BASE_URL=http://10.213.7.11:8080/v1')
    const program = await colleague(t, ann, { connect, mesh, openai })
    took('a colleague')

    // A machine that nothing is copied to.
    const third = await Person.at(t, 'third', 14)
    await joinByCode(t, first, third)
    await until(async () => (await processorsOf(first)).length === 3, 'all three serve', 20_000)
    took('a third machine, by a code')

    // The first machine goes, and comes back from a backup on another one.
    const key = join(await t.tmp(), 'backup.key')
    writeFileSync(key, randomBytes(32), { mode: 0o600 })
    const file = join(await t.tmp(), 'mesh.backup')
    const usedBefore = await requestsOf(first, 'ann')
    t.ok(usedBefore >= 5, `${usedBefore} requests of ann`)
    await first.type('infermesh backup', { more: `${file} --key-file ${key}` })
    const stale = readFileSync(homeFiles(ann.home).nodes)
    killAll('first')
    unplug('first')
    const fourth = await Person.at(t, 'fourth', 15)
    await fourth.type('infermesh restore', { more: `${file} --key-file ${key}` })
    took('a backup, and its restore')
    const fourthUp = fourth.begin('infermesh up')
    await fourth.worker('auth', 'auth')
    const began = performance.now()
    await fourth.worker('gateway', 'gateway')
    await until(async () => (await processorsOf(fourth)).length === 3, 'the members are back', 15_000)
    await until(() => isLinked(second), 'a member is linked with the authority', 15_000)
    const backMs = performance.now() - began
    t.ok(backMs < 10_000, `members linked with the authority at its new address after ${(backMs / 1000).toFixed(1)} s`)
    await allServe(t, fourth, ['processor', 'second', 'third'])
    t.is(await requestsOf(fourth, 'ann'), usedBefore, 'usage is still there, each request once')
    took('the mesh is back')

    // What is made from here on names the new address, and what was made before is good.
    const after = await newKey(fourth)
    const { bootstrap } = decodeConnectString(after.connect).profile.network
    t.ok(bootstrap.length > 0 && bootstrap.every((node) => /^10\.213\.7\.15:267\d\d$/.test(node)), bootstrap.join())
    const [, again = ''] = /^infermesh join (imv_\S+)$/m.exec(await fourth.type('infermesh invite')) ?? []
    t.alike(decodeInvite(again).profile.network.bootstrap, bootstrap)
    t.is(after.openai?.split(' ')[1], 'OPENAI_BASE_URL=http://10.213.7.15:8080/v1')
    t.ok((await ann.type(ASK)).length > 10, 'her key is good, and her machine finds the way from old addresses')
    took('a colleague’s command, which knew the first machine alone')
    t.ok(/Paris/.test(await program()), 'and so does her program, by what that has found')
    const moved = openai?.replace('10.213.7.11', '10.213.7.15')
    t.ok((await ann.type(LIST, { before: moved })).includes('infermesh-tiny'), 'over HTTP the new address is needed')
    writeFileSync(homeFiles(ann.home).nodes, stale)
    const named = /MESH=(\S+)/.exec(after.mesh)?.[1] ?? ''
    await ann.run(['infermesh', 'whoami', '--mesh', named])
    t.ok(readFileSync(homeFiles(ann.home).nodes, 'utf8').includes('10.213.7.15'), 'a node that is named is remembered')
    const uses = async () => (await requestsOf(fourth, 'ann')) === usedBefore + 2
    await until(uses, 'what she asks now is counted on from there', 15_000)
    took('the colleague is back')

    // A member that starts anew finds the authority where it is now.
    secondUp.process.kill('SIGTERM')
    await secondUp.exited
    secondUp = second.begin('infermesh up')
    await second.worker('processor', 'second')
    await until(async () => (await processorsOf(fourth)).length === 3, 'it is back', 20_000)
    const fifth = await Person.at(t, 'fifth', 16)
    await fourth.run(['infermesh', 'network', 'private', '--bootstrap', '10.213.7.15:4000'])
    t.is((await fifth.tries('infermesh join', { more: '--yes' })).code, 69, 'no other network tells of itself')
    took('the rest')
    for (const one of [secondUp, fourthUp]) one.process.kill('SIGTERM')
    await Promise.all([secondUp.exited, fourthUp.exited])
  },
)

/** All that somebody needs who has nothing but what `keys create` printed. @returns what runs her program once more */
async function colleague(t: Test, ann: Person, { connect, mesh, openai = '' }: Lines): Promise<() => Promise<string>> {
  t.ok((await ann.type(LIST, { before: openai })).includes('infermesh-tiny'))
  const curl = exampleOf('curl')
    .replace('http://127.0.0.1:8080/v1', '$OPENAI_BASE_URL')
    .replace('$(cat ~/.infermesh/admin.key)', '$OPENAI_API_KEY')
  t.ok(/Paris/.test(await ann.run(['sh', '-c', `${openai}\n${curl}`])), 'curl')

  t.ok((await ann.type(ASK, { before: mesh })).length > 10, 'a mesh and a key in the environment')
  t.absent(existsSync(ann.home), 'nothing is kept of that')
  const login = await ann.type('infermesh login imc_…', { fill: { 'imc_…': connect } })
  t.ok(login.includes('You are ann'), login)
  t.ok((await ann.type(ASK)).length > 10, 'run')
  t.ok(/requests\/min +key/.test(await ann.type('infermesh whoami')))

  const project = await t.tmp()
  await assembleClient()
  await installTarball(project, await pack(CLIENT_DIR, await t.tmp()), ['typescript', 'openai'])
  const env = { INFERMESH_MESH: connect }
  writeFileSync(join(project, 'ask.ts'), exampleOf().replace("'infermesh'", "'@infermesh/client'"))
  const strict = ['--strict', '--skipLibCheck', 'false', '--target', 'es2023', '--module', 'nodenext']
  const tsc = [process.execPath, 'node_modules/typescript/bin/tsc', ...strict, 'ask.ts']
  await ann.run(tsc, { cwd: project })
  const program = () => ann.run([process.execPath, 'ask.js'], { cwd: project, env })
  t.ok(/Paris/.test(await program()), 'the client library, in a strict project that has nothing else')
  writeFileSync(join(project, 'sdk.js'), exampleOf('fetch').replace("'infermesh'", "'@infermesh/client'"))
  t.ok(/Paris/.test(await ann.run([process.execPath, 'sdk.js'], { cwd: project, env })), 'the OpenAI SDK over the mesh')
  return program
}

/** A machine asks to join, and whoever sees the same code at the authority's lets it in. */
async function joinByCode(t: Test, admin: Person, machine: Person): Promise<void> {
  const joining = machine.begin('infermesh join', { more: '--yes --json --name third' })
  const began = performance.now()
  const code = await until(() => /"code":"(.*)"/.exec(joining.stderr)?.[1], 'a code', 20_000)
  t.comment(`found over the switch, and a code shown, in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  const { requests } = await admin.json<{ requests: { address: string; code: string }[] }>('members', 'requests')
  t.alike(
    requests.map((one) => [one.code, one.address]),
    [[code, '10.213.7.14']],
  )
  await admin.type('infermesh members accept <code>', { fill: { '<code>': code } })
  const { code: exit, stderr } = await joining.exited
  t.is(exit, 0, stderr)
  machine.begin('infermesh up')
  await machine.worker('processor', 'third')
}

async function newKey(admin: Person): Promise<Lines> {
  const create = 'infermesh keys create --user ann --rpm 60 --budget 100000/day --models infermesh-tiny --expires 30d'
  const shown = await admin.type(create)
  const line = (start: string) => shown.split('\n').find((text) => text.startsWith(start))
  const connect = line('infermesh login imc_')?.split(' ')[2]
  const mesh = line('export INFERMESH_MESH=')
  if (connect === undefined || mesh === undefined) throw new Error(shown)
  return { connect, mesh, openai: line('export OPENAI_BASE_URL=') }
}

async function processorsOf(admin: Person): Promise<string[]> {
  return (await admin.json<Models>('models', 'ls')).models[0]?.processors ?? []
}

/** Whether a machine's processor has the authority at hand. */
function isLinked(machine: Person): boolean {
  const { links = [] } = readStatus(machine.home, 'processor', 'second') ?? {}
  return links.some(({ role, state }) => role === 'auth' && state === 'ready')
}

/** Asks until each of these processors has answered. */
async function allServe(t: Test, admin: Person, names: string[]): Promise<void> {
  const answered = new Set<string>()
  for (let round = 0; round < 6 && answered.size < names.length; round++) {
    const all = await Promise.all([1, 2, 3, 4].map((i) => admin.json<{ processor: string }>('run', `Count to ${i}`)))
    for (const { processor } of all) answered.add(processor)
  }
  t.alike([...answered].sort(), names, 'each has answered')
}

async function requestsOf(admin: Person, user: string): Promise<number> {
  const { rows } = await admin.json<Usage>('usage', '--by', 'user')
  return rows.find((row) => row.user === user)?.requests ?? 0
}

function stopwatch(t: Test): (what: string) => void {
  let began = performance.now()
  return (what) => {
    t.comment(`${what}: ${((performance.now() - began) / 1000).toFixed(1)} s`)
    began = performance.now()
  }
}
