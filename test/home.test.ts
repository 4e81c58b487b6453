import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'brittle'
import { claimHome } from '../cli/supervisor/state.js'
import {
  claimSupervisor,
  findProfile,
  findStatus,
  homeFiles,
  identityPath,
  loadSeed,
  makePrivateDir,
  openSecrets,
  readAdminKey,
  readHomeInvite,
  readProfile,
  readRoles,
  readSettings,
  readStatuses,
  readStorePids,
  readSupervisor,
  releaseSupervisor,
  removeStatus,
  settingsPath,
  writeAdminKey,
  writeFileAtomic,
  writeHomeInvite,
  writeProfile,
  writeRoles,
  writeStatus,
  writeStorePid,
} from '../lib/home/index.js'
import { readSecret, writeSecret } from '../lib/home/secrets.js'
import {
  decodeInvite,
  encodeInvite,
  encodeKey,
  type InviteText,
  MeshError,
  newApiKey,
  type WorkerStatus,
} from '../lib/protocol/index.js'

const key = (byte: number) => encodeKey(Buffer.alloc(32, byte))

function invite(more: Partial<InviteText> = {}): InviteText {
  const { id, secret } = newApiKey()
  const network = { kind: 'lan' as const, bootstrap: ['192.168.1.5:49737'] }
  return {
    id,
    secret,
    profile: { address: key(1), authority: key(2), network },
    role: undefined,
    name: undefined,
    ...more,
  }
}

test('an invite comes back as it was, and is short enough to copy', (t) => {
  for (const given of [invite(), invite({ role: 'processor', name: 'lap' }), invite({ role: 'gateway' })]) {
    const text = encodeInvite(given)
    t.alike(decodeInvite(text), given)
    t.ok(text.length < 260, `${text.length} characters`)
    t.alike(decodeInvite(` ${text}\n`), given)
  }
})

test('anything else is refused as no invite', (t) => {
  const text = encodeInvite(invite())
  const others = [
    '',
    'imv_',
    'imv_yyyy',
    text.slice(4),
    text.slice(0, -10),
    text.replace('imv_', 'im_'),
    `${text.slice(0, 20)}!${text.slice(21)}`,
  ]
  for (const other of others) {
    try {
      decodeInvite(other)
      t.fail(`${other.slice(0, 20)} was read`)
    } catch (err) {
      t.ok(err instanceof MeshError && err.code === 'INVITE_INVALID')
    }
  }
})

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

function failure(read: () => unknown): MeshError {
  try {
    read()
  } catch (err) {
    if (err instanceof MeshError) return err
    throw err
  }
  throw new Error('nothing was refused')
}

const status: WorkerStatus = {
  role: 'processor',
  name: 'p1',
  publicKey: key(3),
  version: '0.1.0',
  since: 1,
  pid: process.pid,
  addresses: { dht: '127.0.0.1:4000' },
  load: { state: 'ready', running: 0, queued: 0, models: [] },
}

test('what is written of a home is what is read of it', async (t) => {
  const home = await t.tmp()
  t.is(findProfile(home), undefined)
  t.is(readAdminKey(home), undefined)
  t.is(readHomeInvite(home), undefined)
  t.is(readRoles(home), undefined)
  t.is(readSupervisor(home), undefined)
  t.is(findStatus(home, status), undefined)
  t.alike(readStatuses(home), [])
  t.alike(readStorePids(home), [])

  const given = invite()
  writeProfile(home, given.profile)
  t.alike(readProfile(home), given.profile)
  const adminKey = newApiKey()
  writeAdminKey(home, adminKey.text)
  t.alike(readAdminKey(home), adminKey)
  writeHomeInvite(home, given)
  t.alike(readHomeInvite(home), given)
  writeRoles(home, [status, { role: 'auth', name: 'auth' }])
  t.alike(readRoles(home), [
    { role: 'processor', name: 'p1' },
    { role: 'auth', name: 'auth' },
  ])
  const { statusDir, worker } = homeFiles(home)
  writeStatus(home, status)
  t.alike(findStatus(home, status), status)
  t.alike(readStatuses(home), [{ path: join(statusDir, 'processor-p1.json'), status }])
  removeStatus(home, status)
  t.alike(readStatuses(home), [])
  const workerDir = worker('processor', 'p1')
  makePrivateDir(workerDir)
  writeStorePid(workerDir)
  t.alike(readStorePids(home), [{ worker: 'processor-p1', pid: process.pid }])
  const seed = loadSeed(workerDir)
  t.is(seed.byteLength, 32)
  t.alike(loadSeed(workerDir), seed, 'it stays the same')
})

test('a home that cannot be made where it is wanted is named, with why', async (t) => {
  const file = join(await t.tmp(), 'file')
  writeFileSync(file, '')
  t.exception(
    () => makePrivateDir(join(file, 'home')),
    /home cannot be made: a part of the path is a file\. Choose another/,
  )
  t.exception(() => makePrivateDir(file), /file cannot be made: a file is there/)
})

test('of two supervisors at once one is told that it is the one', async (t) => {
  const home = join(await t.tmp(), 'home')
  const state = (pid: number) => ({ pid, startedAt: 1, roles: [{ role: 'auth' as const, name: 'auth' }] })
  const runs = () => true
  t.is(claimSupervisor(home, state(1), runs), undefined)
  t.alike(claimSupervisor(home, state(2), runs), state(1))
  t.alike(readSupervisor(home), state(1))
  releaseSupervisor(home)
  t.alike(readSupervisor(home), state(1), 'it is another process’s')
  t.is(
    claimSupervisor(home, state(process.pid), () => false),
    undefined,
    'the other one is gone',
  )
  releaseSupervisor(home)
  t.is(readSupervisor(home), undefined)
  t.is(mode(home), '700')
  t.alike(readdirSync(home), [])
})

test('a home whose supervisor left a file that says nothing is claimed and released', async (t) => {
  const home = await t.tmp()
  const path = homeFiles(home).supervisor
  for (const text of ['', '{"pid":', '{"pid":"1"}', JSON.stringify({ pid: 2 ** 30, startedAt: 1, roles: [] })]) {
    writeFileSync(path, text)
    claimHome(home, [])
    t.is(readSupervisor(home)?.pid, process.pid, JSON.stringify(text))
    releaseSupervisor(home)
    t.alike(readdirSync(home), [])
  }
})

test('what another process has put there meanwhile is not taken away', async (t) => {
  const home = await t.tmp()
  const path = homeFiles(home).supervisor
  const state = (pid: number) => ({ pid, startedAt: 1, roles: [] })
  writeFileSync(path, JSON.stringify(state(1)))
  const found = claimSupervisor(home, state(3), ({ pid }) => {
    // Just when the one before is found to be gone, another process claims.
    if (pid === 1) writeFileSync(path, JSON.stringify(state(2)))
    return pid === 2
  })
  t.alike(found, state(2))
  t.alike(readSupervisor(home), state(2))
  t.alike(readdirSync(home), ['supervisor.json'])
})

test('secrets are their owner’s alone, also those that were not', async (t) => {
  const home = await t.tmp()
  const { adminKey, homeInvite, worker } = homeFiles(home)
  const workerDir = worker('auth', 'auth')
  makePrivateDir(workerDir)
  const identity = identityPath(workerDir)
  const accounts = join(workerDir, 'accounts.key')
  const write = (): void => {
    writeAdminKey(home, newApiKey().text)
    writeHomeInvite(home, invite())
    loadSeed(workerDir)
    writeSecret(accounts, 'secret')
  }
  write()
  const secrets = [adminKey, homeInvite, identity, accounts]
  for (const path of secrets) t.is(mode(path), '600', path)
  t.alike(openSecrets(home), [])
  for (const path of secrets) chmodSync(path, 0o644)
  t.alike(openSecrets(home), secrets)
  write()
  t.is(readSecret(accounts), 'secret')
  for (const path of secrets) t.is(mode(path), '600', path)
  chmodSync(accounts, 0o644)
  readSecret(accounts)
  t.is(mode(accounts), '600')
})

test('a file of the home that holds something else is named, with what to do', async (t) => {
  const home = await t.tmp()
  const files = homeFiles(home)
  const { profile } = invite()
  const cases: [path: string, text: string, read: () => unknown, says: RegExp][] = [
    [files.mesh, '{', () => findProfile(home), /not JSON.*join again/],
    [files.mesh, '[]', () => readProfile(home), /expected an object, got a list.*join again/],
    [files.mesh, JSON.stringify({ ...profile, address: 'x' }), () => findProfile(home), /address: expected 52/],
    [
      files.mesh,
      JSON.stringify({ ...profile, network: { kind: 'wan', bootstrap: [] } }),
      () => findProfile(home),
      /network\.kind: expected one of local, lan,/,
    ],
    [
      files.mesh,
      JSON.stringify({ ...profile, network: { kind: 'lan', bootstrap: ['here'] } }),
      () => findProfile(home),
      /bootstrap\[0\]: expected host:port/,
    ],
    [files.adminKey, 'sk-none', () => readAdminKey(home), /expected im_<id>_<secret>. Delete it/],
    [files.adminKey, '', () => readAdminKey(home), /Delete it/],
    [files.homeInvite, 'imv_x', () => readHomeInvite(home), /holds no invite.*Delete it/],
    [files.homeInvite, '', () => readHomeInvite(home), /holds no invite/],
    [files.roles, '[]', () => readRoles(home), /Delete it: .*--role/],
    [files.roles, '[{"role":"king","name":"p1"}]', () => readRoles(home), /\[0\]\.role: /],
    [files.supervisor, '', () => readSupervisor(home), /not JSON.*Delete it/],
    [files.supervisor, '{"pid":"1"}', () => readSupervisor(home), /pid: expected a (whole )?number, got a text/],
    [
      settingsPath(files.configDir, 'http'),
      '[]',
      () => readSettings(settingsPath(files.configDir, 'http')),
      /JSON object/,
    ],
  ]
  for (const [path, text, read, says] of cases) {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, text)
    const { code, message, exitCode } = failure(read)
    t.ok(message.startsWith(path), message)
    t.ok(says.test(message), message)
    t.is(code, 'CONFIG_INVALID')
    t.is(exitCode, 78)
    rmSync(path)
  }
})

test('a file of the home that cannot be read is named', async (t) => {
  const home = await t.tmp()
  const files = homeFiles(home)
  const workerDir = files.worker('auth', 'auth')
  // A folder in its place cannot be read by anybody, not even by root.
  const cases: [path: string, read: () => unknown, code: string][] = [
    [files.mesh, () => findProfile(home), 'CONFIG_INVALID'],
    [files.adminKey, () => readAdminKey(home), 'CONFIG_INVALID'],
    [files.homeInvite, () => readHomeInvite(home), 'CONFIG_INVALID'],
    [files.roles, () => readRoles(home), 'CONFIG_INVALID'],
    [files.supervisor, () => readSupervisor(home), 'CONFIG_INVALID'],
    [settingsPath(files.configDir, 'log'), () => readSettings(settingsPath(files.configDir, 'log')), 'CONFIG_INVALID'],
    [identityPath(workerDir), () => loadSeed(workerDir), 'STORE_INVALID'],
  ]
  for (const [path, read, code] of cases) {
    mkdirSync(path, { recursive: true })
    const err = failure(read)
    t.ok(err.message.startsWith(`${path} cannot be read: EISDIR`), err.message)
    t.is(err.code, code)
  }
})

test('a status file that cannot be read hides no other', async (t) => {
  const home = await t.tmp()
  writeStatus(home, status)
  const path = homeFiles(home).status('gateway', 'g1')
  writeFileSync(path, '{"role":"gateway"}')
  const [broken, good] = readStatuses(home).sort((a, b) => a.path.localeCompare(b.path))
  t.alike(good && 'status' in good && good.status, status)
  const problem = broken && 'problem' in broken ? broken.problem.message : ''
  t.ok(problem.startsWith(path) && problem.includes('Delete it'), problem)
  t.is(findStatus(home, { role: 'gateway', name: 'g1' }), undefined)
})

test('a file is replaced whole, with the mode that is asked for', async (t) => {
  const dir = await t.tmp()
  const path = join(dir, 'file')
  writeFileAtomic(path, 'one', { mode: 0o600 })
  t.is(mode(path), '600')
  writeFileAtomic(path, 'two')
  t.is(readFileSync(path, 'utf8'), 'two')
  t.is(mode(path), (0o666 & ~process.umask()).toString(8))
  chmodSync(path, 0o666)
  // What a killed process of the same number left.
  const left = `${path}.${process.pid}.tmp`
  writeFileSync(left, 'left', { mode: 0o666 })
  chmodSync(left, 0o666)
  writeFileAtomic(path, 'three', { mode: 0o600 })
  t.is(mode(path), '600', 'neither the old file nor one that was left widens it')
  const umask = process.umask(0)
  writeFileAtomic(path, 'four', { mode: 0o600 })
  process.umask(0o077)
  writeFileAtomic(join(dir, 'open'), 'five')
  process.umask(umask)
  t.is(mode(path), '600')
  t.is(mode(join(dir, 'open')), '600', 'no more than the umask lets it')
  t.alike(readdirSync(dir).sort(), ['file', 'open'])
})

test('a write that fails leaves the old content, and nothing else', async (t) => {
  const dir = await t.tmp()
  const folder = join(dir, 'folder')
  mkdirSync(join(folder, 'inside'), { recursive: true })
  t.exception(() => writeFileAtomic(folder, 'x'), /EISDIR|ENOTEMPTY|EEXIST|EPERM/)
  t.alike(readdirSync(dir), ['folder'])

  const path = join(dir, 'file')
  writeFileAtomic(path, 'old', { mode: 0o600 })
  const files = new URL('../lib/home/files.js', import.meta.url)
  // No file may grow past 1 or 2 KiB, as the shell counts, as on a disk that is full.
  const script = `import { writeFileAtomic } from '${files}'; writeFileAtomic(${JSON.stringify(path)}, 'x'.repeat(1e6))`
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', 'ulimit -f 2; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    { encoding: 'utf8' },
  )
  t.is(status, 1)
  t.ok(stderr.includes('EFBIG'), stderr)
  t.is(readFileSync(path, 'utf8'), 'old')
  t.alike(readdirSync(dir).sort(), ['file', 'folder'])
})
