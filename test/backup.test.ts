import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type Test } from 'brittle'
import { type Contents, type PackedFile, pack } from '../cli/backup/archive.js'
import { place } from '../cli/backup/place.js'
import { seal, unseal } from '../cli/backup/seal.js'
import { homeFiles } from '../lib/home/index.js'
import { encodeKey, MeshError } from '../lib/protocol/index.js'
import { backUp, keyFile, leftBeside, restoreTo } from './helpers/backup.js'
import { adminKey, CLI, infermesh, spawnProgram, startAuth, startStranger, testHome, until } from './helpers/mesh.js'
import { testUnless } from './helpers/needs.js'
import { NO_SMALL_DISK, SmallDisk } from './helpers/small-disk.js'

/** `infermesh backup` and `infermesh restore`: what goes in comes out, or nothing does. */

const PASSPHRASE = 'correct horse battery staple'
const MIB = 1024 * 1024

/** A home with a mesh that nobody runs. @param extraBytes of something that a backup takes along */
async function stoppedHome(t: Test, extraBytes = 0): Promise<string> {
  const home = join(await testHome(t), 'home')
  const auth = await startAuth(t, home)
  await auth.stop()
  if (extraBytes > 0) {
    mkdirSync(join(auth.workerDir, 'stored'))
    writeFileSync(join(auth.workerDir, 'stored', 'large'), Buffer.alloc(extraBytes, 7))
  }
  return home
}

async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const chunk of chunks) all.push(chunk)
  return Buffer.concat(all)
}

async function* pieces(...all: Buffer[]): AsyncGenerator<Buffer> {
  yield* all
}

async function refusal(work: Promise<unknown>): Promise<MeshError> {
  try {
    await work
  } catch (err) {
    if (err instanceof MeshError) return err
    throw err
  }
  throw new Error('it was not refused')
}

test('a backup with a passphrase: one file for its owner, which gives the home back', {
  timeout: 60_000,
}, async (t) => {
  const home = await stoppedHome(t)
  const dir = await t.tmp()
  const passphrase = join(dir, 'passphrase')
  writeFileSync(passphrase, `${PASSPHRASE}\n`)
  const made = await infermesh(['backup', dir, '--passphrase-file', passphrase, '--json'], { home })
  t.is(made.code, 0, made.stderr)
  const { file, sizeBytes, mesh, workers } = JSON.parse(made.stdout)
  t.ok(/infermesh-[a-z0-9]{8}-\d{4}-\d\d-\d\d-\d{6}\.backup$/.test(file), file)
  t.is(statSync(file).mode & 0o777, 0o600)
  t.is(statSync(file).size, sizeBytes)
  t.alike(
    workers.map(({ role, name }: { role: string; name: string }) => `${role} ${name}`),
    ['auth auth'],
  )
  t.alike(readdirSync(dir).sort(), [file.slice(dir.length + 1), 'passphrase'].sort(), 'nothing is left beside it')
  t.absent(readFileSync(file).includes(adminKey(home)), 'no key can be read in it')
  const again = await infermesh(['backup', file, '--passphrase-file', passphrase], { home })
  t.is(again.code, 64, again.stderr)
  t.ok(again.stderr.includes('is there already'))

  const place = join(dir, 'restored')
  const wrong = await infermesh(['restore', file, '--passphrase-file', '-', '--json'], {
    home: place,
    input: 'wrong horse\n',
  })
  t.is(wrong.code, 64)
  t.is(JSON.parse(wrong.stderr).error.code, 'BAD_REQUEST')
  t.ok(wrong.stderr.includes('passphrase'))
  t.absent(existsSync(place))
  const back = await infermesh(['restore', file, '--passphrase-file', '-'], { home: place, input: `${PASSPHRASE}\n` })
  t.is(back.code, 0, back.stderr)
  t.is(statSync(place).mode & 0o777, 0o700)
  t.is(adminKey(place), adminKey(home))
  t.alike(leftBeside(place), [])
  const auth = await startAuth(t, place)
  t.is(auth.profile.address, mesh, 'it is the same mesh')
  const full = await infermesh(['restore', file, '--passphrase-file', passphrase], { home: place })
  t.is(full.code, 64)
  t.ok(full.stderr.includes('is not empty'), full.stderr)
})

test('a backup goes to standard output, and is not written where nothing can be asked', {
  timeout: 60_000,
}, async (t) => {
  const home = await stoppedHome(t)
  const key = await keyFile(t)
  const dir = await t.tmp()
  const file = join(dir, 'piped.backup')
  const command = `"${process.execPath}" "${CLI}" backup - --key-file "${key}" > "${file}"`
  const piped = await spawnProgram(t, ['sh', '-c', command], { env: { INFERMESH_HOME: home } }).exited
  t.is(piped.code, 0, piped.stderr)
  t.is(piped.stdout, '')
  await restoreTo(join(dir, 'restored'), file, key)
  t.is(adminKey(join(dir, 'restored')), adminKey(home))
  const wrong: [string[], string][] = [
    [['backup', dir], 'no terminal'],
    [['backup', dir, '--passphrase-file', join(dir, 'none')], 'does not exist'],
    [['backup', dir, '--passphrase-file', '-'], 'fewer than 8'],
    [['backup', dir, '--passphrase-file', '-', '--key-file', key], 'one secret'],
    [['restore', file, '--passphrase-file', '-', '--home', join(dir, 'other')], 'key file'],
    [['restore', key, '--key-file', key, '--home', join(dir, 'other')], 'no backup'],
    [['restore', join(dir, 'nothing'), '--home', join(dir, 'other')], 'does not exist'],
  ]
  const isRefused = async ([args, words]: [string[], string]): Promise<void> => {
    const { code, stderr } = await infermesh(args, { home, input: 'short\n' })
    t.is(code, 64, stderr)
    t.ok(stderr.includes(words), stderr)
  }
  while (wrong.length > 0) await Promise.all(wrong.splice(0, 3).map(isRefused))
  t.alike(readdirSync(dir).sort(), ['piped.backup', 'restored'], 'nothing else was written')
})

test('a backup that nobody reads to its end is no success', { timeout: 60_000 }, async (t) => {
  // More than a pipe holds.
  const home = await stoppedHome(t, 4 * MIB)
  const key = await keyFile(t)
  const said = join(dirname(key), 'code')
  const command = `{ "${process.execPath}" "${CLI}" backup - --key-file "${key}"; echo $? > "${said}"; } | head -c 10 > /dev/null`
  const { stderr } = await spawnProgram(t, ['sh', '-c', command], { env: { INFERMESH_HOME: home } }).exited
  t.is(readFileSync(said, 'utf8'), '69\n')
  t.ok(stderr.includes('before the backup was whole'), stderr)
})

test('a backup that was cut, changed or lengthened is refused, wherever', { timeout: 60_000 }, async (t) => {
  const secret = { kind: 'keyFile', bytes: Buffer.alloc(32, 1) } as const
  const plain = Buffer.alloc(200_000, 'infermesh')
  const file = await collect(seal(pieces(plain), secret))
  t.ok((await collect(unseal(pieces(file), secret, 'it'))).equals(plain))
  t.is((await collect(unseal(pieces(await collect(seal(pieces(), secret))), secret, 'it'))).byteLength, 0)
  const open = (bytes: Buffer) => refusal(collect(unseal(pieces(bytes), secret, 'it')))
  const places = [...Array(82).keys(), 100, 65_600, 65_635, 65_636, 131_100, file.length - 20, file.length - 1]
  for (const at of places) {
    const changed = Buffer.from(file)
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
    const { code, message } = await open(changed)
    if (code !== 'BAD_REQUEST') t.fail(`byte ${at}: ${message}`)
  }
  for (const bytes of [0, 10, 17, 50, 81, 82, 90, 65_635, 65_636, 131_189, 131_190, file.length - 1]) {
    const { code, message } = await open(file.subarray(0, bytes))
    if (code !== 'BAD_REQUEST') t.fail(`${bytes} bytes: ${message}`)
  }
  t.is((await open(Buffer.concat([file, Buffer.from('x')]))).code, 'BAD_REQUEST', 'something behind its end')
  const pieceBytes = 64 * 1024 + 17
  const swapped = Buffer.concat([
    file.subarray(0, 82),
    file.subarray(82 + pieceBytes, 82 + 2 * pieceBytes),
    file.subarray(82, 82 + pieceBytes),
    file.subarray(82 + 2 * pieceBytes),
  ])
  t.is((await open(swapped)).code, 'BAD_REQUEST', 'pieces in another order')
  const later = Buffer.from(file)
  later.writeUInt8(2, 16)
  t.ok((await open(later)).message.includes('of version 2'), 'a later version says so')
  const greedy = Buffer.from(file)
  greedy.writeUInt32LE(0xffffffff, 22)
  t.ok((await open(greedy)).message.includes('changed'), 'no memory is taken for what is not believed yet')
})

test('what a backup asks of the passphrase’s check is bounded both ways', async (t) => {
  const secret = { kind: 'passphrase', bytes: Buffer.from(PASSPHRASE) } as const
  const file = await collect(seal(pieces(Buffer.from('x')), secret))
  for (const [at, values] of [
    [18, [0, 11, 0xffffffff]],
    [22, [0, 7, 1024 * 1024 + 1, 0xffffffff]],
  ] as const) {
    for (const value of values) {
      const changed = Buffer.from(file)
      changed.writeUInt32LE(value, at)
      const startedAt = performance.now()
      const { code, message } = await refusal(collect(unseal(pieces(changed), secret, 'it')))
      t.is(`${code} ${message}`, 'BAD_REQUEST it was cut, or its beginning was changed', `${value} at ${at}`)
      t.ok(performance.now() - startedAt < 200, 'before anything is computed')
    }
  }
})

test('a backup whose maker lies about what is in it writes nothing but its own home, and nothing of that is left', async (t) => {
  const dir = await t.tmp()
  const home = join(dir, 'home')
  const outside = join(dir, 'processor-p1')
  mkdirSync(outside)
  writeFileSync(join(outside, 'models.json'), '{"models":[{"path":"here"}]}')
  const contents: Contents = { version: '1', at: 1, home: '/h', host: 'h', workers: [], models: [] }
  const file = (path: string, text = 'x', sizeBytes = text.length, mode = 0o600): PackedFile => ({
    ...{ path, sizeBytes, mode },
    chunks: pieces(Buffer.from(text)),
  })
  async function* all(files: PackedFile[]) {
    yield* files
  }
  const worker = { role: 'processor', name: 'p1', publicKey: encodeKey(Buffer.alloc(32, 1)) } as const
  const model = { worker: 'processor-p1', name: 'm', path: 'here', file: 'models/processor-p1/m' }
  const list = (text: string) => [file('workers/processor-p1/models.json', text)]
  const hostile: [string, Partial<Contents>, PackedFile[]][] = [
    ...['../x', '/etc/x', 'a/../../x', 'a//b', './a', '..', 'a\\b', 'a\0b', '', 'x'.repeat(2000)].map(
      (path): [string, object, PackedFile[]] => [`the path ${JSON.stringify(path).slice(0, 20)}`, {}, [file(path)]],
    ),
    ['one path twice', {}, [file('a'), file('a')]],
    ['a file that is a folder, too', {}, [file('a'), file('a/b')]],
    ['a folder that is a file, too', {}, [file('a/b'), file('a')]],
    ['a name of 300 characters', {}, [file('y'.repeat(300))]],
    ['a size that is none', {}, [file('a', 'x', -1)]],
    ['more than there is', {}, [file('a', 'x', 2 ** 52)]],
    ['a mode with more than rights', {}, [file('a', 'x', 1, 0o4755)]],
    ['a worker without files', { workers: [worker] }, []],
    ['a worker elsewhere', { workers: [{ ...worker, name: '../../x' }] }, []],
    ['models of a worker elsewhere', { models: [{ ...model, worker: '../../../processor-p1' }] }, []],
    ['models of a worker elsewhere, plainly', { models: [{ ...model, worker: '..' }] }, []],
    ['a model elsewhere', { models: [{ ...model, file: '../../m' }] }, list('{"models":[{"path":"here"}]}')],
    ['models without a list', { models: [model] }, []],
    ['a list that is none', { models: [model] }, list('{')],
    ['a list of something else', { models: [model] }, list('{"models":{"path":1}}')],
  ]
  for (const [what, over, files] of hostile) {
    const { code, message } = await refusal(place(home, pack({ ...contents, ...over }, all(files))))
    t.is(code, 'BAD_REQUEST', `${what}: ${message}`)
    t.absent(existsSync(home), what)
    t.alike(readdirSync(dir), ['processor-p1'], what)
  }
  t.is(readFileSync(join(outside, 'models.json'), 'utf8'), '{"models":[{"path":"here"}]}')
  await place(
    home,
    pack({ ...contents, workers: [worker], models: [model] }, all(list('{"models":[{"path":"here"}],"x":1}'))),
  )
  const { models, x } = JSON.parse(readFileSync(join(home, 'workers', 'processor-p1', 'models.json'), 'utf8'))
  t.alike([models, x], [[{ path: join(home, 'models', 'processor-p1', 'm') }], 1], 'an honest one is as ever')
})

test('a damaged file leaves nothing behind, and of two restores at once one wins', { timeout: 60_000 }, async (t) => {
  const home = await stoppedHome(t)
  const key = await keyFile(t)
  const file = await backUp(t, home, key)
  const place = join(await t.tmp(), 'restored')
  const whole = readFileSync(file)
  const damaged = join(dirname(file), 'damaged')
  for (const bytes of [
    whole.subarray(0, whole.length - 100),
    Buffer.concat([whole.subarray(0, -1), Buffer.from([0])]),
  ]) {
    writeFileSync(damaged, bytes)
    const { code, stderr } = await infermesh(['restore', damaged, '--key-file', key], { home: place })
    t.is(code, 64, stderr)
    t.absent(existsSync(place))
    t.alike(leftBeside(place), [])
  }
  const both = await Promise.all([1, 2].map(() => infermesh(['restore', file, '--key-file', key], { home: place })))
  t.alike(both.map(({ code }) => code).sort(), [0, 64], both.map(({ stderr }) => stderr).join())
  t.is(adminKey(place), adminKey(home))
  t.alike(leftBeside(place), [])
})

const disk = SmallDisk.make('8m')

testUnless(
  disk === undefined ? NO_SMALL_DISK : undefined,
  'a full disk: no backup and no home, and nothing half made',
  { timeout: 60_000 },
  async (t) => {
    const home = await stoppedHome(t, 16 * MIB)
    const key = await keyFile(t)
    const small = disk?.dir ?? ''
    const made = await infermesh(['backup', join(small, 'a.backup'), '--key-file', key], { home })
    t.is(made.code, 69, made.stderr)
    t.ok(/disk is full/i.test(made.stderr), made.stderr)
    t.alike(readdirSync(small), [])
    const file = await backUp(t, home, key)
    const restored = await infermesh(['restore', file, '--key-file', key], { home: join(small, 'home') })
    t.is(restored.code, 69, restored.stderr)
    t.alike(readdirSync(small), [])
  },
)

testUnless(
  disk === undefined ? NO_SMALL_DISK : undefined,
  'a home is restored where a link leads, and into a folder of a volume, but not in its place',
  { timeout: 60_000 },
  async (t) => {
    const home = await stoppedHome(t)
    const key = await keyFile(t)
    const file = await backUp(t, home, key)
    const volume = disk?.dir ?? ''
    const { code, stderr } = await infermesh(['restore', file, '--key-file', key], { home: volume })
    t.is(code, 78, stderr)
    t.ok(stderr.includes('mount point') && stderr.includes(join(volume, 'home')), stderr)
    t.alike(readdirSync(volume), [])
    t.alike(leftBeside(volume), [])

    const behind = join(volume, 'home')
    mkdirSync(behind)
    const link = join(await t.tmp(), 'link')
    symlinkSync(behind, link)
    await restoreTo(link, file, key)
    t.ok(lstatSync(link).isSymbolicLink(), 'the link stays')
    t.is(adminKey(behind), adminKey(home))
    rmSync(behind, { recursive: true })
  },
)

test('backups that lie in the home are in none, and a damaged list of models is named', {
  timeout: 60_000,
}, async (t) => {
  const home = await stoppedHome(t)
  const key = await keyFile(t)
  for (const name of ['first', 'second.backup']) {
    const { code, stderr } = await infermesh(['backup', join(home, name), '--key-file', key], { home })
    t.is(code, 0, stderr)
  }
  const sizeOf = (name: string) => statSync(join(home, name)).size
  t.is(sizeOf('second.backup'), sizeOf('first'))

  const list = join(homeFiles(home).worker('auth', 'auth'), 'models.json')
  for (const text of ['', '{"x":1}']) {
    writeFileSync(list, text)
    const { code, stderr } = await infermesh(['backup', await t.tmp(), '--key-file', key], { home })
    t.is(code, 78, stderr)
    t.ok(stderr.includes('workers/auth-auth/models.json') && stderr.includes('models add'), stderr)
  }
})

test('killed in the midst: no file that looks whole, and no home', { timeout: 90_000 }, async (t) => {
  const home = await stoppedHome(t, 256 * MIB)
  const key = await keyFile(t)
  const dir = await t.tmp()
  const run = (args: string[], place: string) =>
    spawnProgram(t, [process.execPath, CLI, ...args, '--key-file', key], { env: { INFERMESH_HOME: place } })
  const backup = run(['backup', join(dir, 'a.backup')], home)
  await until(() => readdirSync(dir).length > 0, 'it is being written', 20_000)
  backup.process.kill('SIGKILL')
  await backup.exited
  const [left = ''] = readdirSync(dir)
  t.alike(readdirSync(dir), [left])
  t.ok(left.endsWith('.partial'), left)
  const place = join(dir, 'restored')
  const { code, stderr } = await infermesh(['restore', join(dir, left), '--key-file', key], { home: place })
  t.is(code, 64, stderr)

  const file = await backUp(t, home, key)
  const restore = run(['restore', file], place)
  await until(() => leftBeside(place).length > 0, 'it is being written', 30_000)
  restore.process.kill('SIGKILL')
  await restore.exited
  t.absent(existsSync(place), 'there is no home')
  t.is(leftBeside(place).length, 1)
  await restoreTo(place, file, key)
  t.alike(leftBeside(place), [], 'the next restore takes away what was left')
  t.is(adminKey(place), adminKey(home))
})

test('a restore is refused while the original answers', { timeout: 60_000 }, async (t) => {
  const home = await testHome(t)
  const key = await keyFile(t)
  // It is in this process, which no list of workers' processes names: it is found over the network.
  const auth = await startAuth(t, home)
  const authority = await startStranger(t, home, auth.publicKey)
  const file = await backUp(t, home, key)
  const place = join(await t.tmp(), 'restored')
  const refused = await infermesh(['restore', file, '--key-file', key, '--json'], { home: place })
  t.is(refused.code, 64)
  const { error } = JSON.parse(refused.stderr)
  t.is(error.code, 'CONFLICT')
  t.ok(error.message.includes('auth auth') && error.message.includes('over the network'), error.message)
  t.absent(existsSync(place))
  t.is((await infermesh(['restore', file, '--key-file', key, '--force'], { home: place })).code, 0, 'but by force')
  await authority.close()
})

test('models are left out, and said so, unless they are asked for', { timeout: 60_000 }, async (t) => {
  const home = await stoppedHome(t)
  const key = await keyFile(t)
  const dir = await t.tmp()
  const model = join(dir, 'm.gguf')
  writeFileSync(model, 'a model')
  const worker = homeFiles(home).worker('auth', 'auth')
  writeFileSync(join(worker, 'models.json'), JSON.stringify({ models: [{ name: 'm', path: model }], files: [] }))
  mkdirSync(homeFiles(home).logDir, { recursive: true })
  writeFileSync(homeFiles(home).log('auth', 'auth'), 'a log')
  const bare = await infermesh(['backup', join(dir, 'bare'), '--key-file', key], { home })
  t.is(bare.code, 0)
  t.ok(bare.stderr.includes(model), bare.stderr)
  await restoreTo(join(dir, 'without'), join(dir, 'bare'), key)
  t.absent(existsSync(join(dir, 'without', 'models')))
  t.absent(existsSync(homeFiles(join(dir, 'without')).logDir), 'logs are left out')
  const whole = await infermesh(['backup', join(dir, 'whole'), '--key-file', key, '--with-models', '--json'], { home })
  t.alike(JSON.parse(whole.stdout).modelsLeftOut, [])
  await restoreTo(join(dir, 'with'), join(dir, 'whole'), key)
  const list = JSON.parse(
    readFileSync(join(homeFiles(join(dir, 'with')).worker('auth', 'auth'), 'models.json'), 'utf8'),
  )
  t.is(readFileSync(list.models[0].path, 'utf8'), 'a model')
  t.ok(list.models[0].path.startsWith(join(dir, 'with')))
  t.ok((await collect(createReadStream(join(dir, 'whole')))).byteLength > 0)
})
