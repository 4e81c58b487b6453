import { execFileSync } from 'node:child_process'
import { appendFile, copyFile, mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'brittle'
import { GgmlType, getLlama } from 'node-llama-cpp'
import { checkGguf, sha256OfFiles } from '../workers/processor/gguf.js'
import { TENSOR_TYPES } from '../workers/processor/gguf-header.js'
import { identify, mustBeSame } from '../workers/processor/model-file.js'
import { answer, chat, failure, startEngine, TINY } from './engine-kit.js'
import { gguf } from './gguf-kit.js'
import { Dice } from './helpers/dice.js'

/** What is looked at of a model's file before llama.cpp sees it: no header costs more than reading it once. */

const { string, number, list, tensor, u32, u64, text, head, entry, file } = gguf
const LLAMA = string('general.architecture', 'llama')
const ONE = tensor('one', [8], 0)
const HUGE = 2n ** 64n - 1n

/** Headers that broke something once, or aim at it, each with what is said of it. */
const CORPUS: Record<string, [bytes: Buffer, says: RegExp]> = {
  'more tensors than bytes': [head(6000, 0), /incomplete: it says it has 6,000 tensors, and 0 bytes are left/],
  'more tensors than any model': [head(HUGE, 1), /says it has 18,446,744,073,709,552,000 tensors; at most 8,192/],
  'more entries than bytes': [head(0, 4000), /incomplete: it says it has 4,000 metadata entries, and 0 bytes are left/],
  'more entries than any model': [head(0, HUGE), /metadata entries; at most 4,096/],
  'no tensors': [file([LLAMA], []), /holds no tensors/],
  'no architecture': [file([], [ONE], 32), /does not say of which architecture/],
  'an architecture of control characters': [
    file([string('general.architecture', 'a\u001b[2J')], [ONE], 32),
    /architecture/,
  ],
  'version 1': [head(1, 1, 1), /version 1; versions 2 and 3/],
  'big-endian': [head(1, 1, 0x03000000), /it is big-endian/],
  'a text without an end': [Buffer.concat([head(1, 1), entry('a', 8, u64(HUGE), Buffer.alloc(64))]), /is incomplete/],
  'a key without an end': [
    Buffer.concat([head(1, 1), u64(2n ** 60n), Buffer.alloc(64)]),
    /as the name of a metadata entry/,
  ],
  'a list without an end': [
    Buffer.concat([head(1, 1), list('tokenizer.x', 4, HUGE), Buffer.alloc(64)]),
    /items in tokenizer\.x; at most/,
  ],
  'a list longer than the file': [
    Buffer.concat([head(1, 1), list('tokenizer.x', 4, 100_000), Buffer.alloc(64)]),
    /64 bytes are left for them/,
  ],
  'a long list that is no vocabulary': [
    file([LLAMA, list('a', 0, 100_000, Buffer.alloc(100_000))], [ONE], 32),
    /at most 65,536/,
  ],
  'lists within lists': [file([LLAMA, list('a', 9, 1, u32(9), u64(1))], [ONE], 32), /lists within the list a/],
  'an unknown kind of value': [file([LLAMA, entry('a', 13, u32(0))], [ONE], 32), /unknown type 13/],
  'an unknown kind of item': [file([LLAMA, list('a', 99, 1, u32(0))], [ONE], 32), /unknown type 99/],
  'an entry twice': [file([LLAMA, LLAMA], [ONE], 32), /general\.architecture twice/],
  'a key that is no name': [
    file([LLAMA, string('a\u001b]0;x\u0007', '')], [ONE], 32),
    /"a\\u001b\]0;x\\u0007", which is no name/,
  ],
  'a key that reaches into objects': [file([LLAMA, string('__proto__.x', '')], [ONE], 32), /which is no name/],
  'a key of a thousand parts': [file([LLAMA, string('a.'.repeat(100), '')], [ONE], 32), /which is no name/],
  'a template without bounds': [
    file([LLAMA, string('tokenizer.chat_template', 'x'.repeat(200_000))], [ONE], 32),
    /200,000 bytes as tokenizer.chat_template; at most 131,072/,
  ],
  'a second template without bounds': [
    file([LLAMA, string('tokenizer.chat_template.tool_use', 'x'.repeat(200_000))], [ONE], 32),
    /200,000 bytes as tokenizer.chat_template.tool_use/,
  ],
  'a text longer than any': [
    file([LLAMA, string('general.license', 'x'.repeat(2 ** 20 + 1))], [ONE], 32),
    /1,048,577 bytes as general.license/,
  ],
  'more than a header holds': [
    Buffer.concat([
      head(1, 30),
      LLAMA,
      ...Array.from({ length: 29 }, (_, i) => string(`a.${i}`, 'x'.repeat(2 ** 20))),
      ONE,
    ]),
    /a header of more than 25,165,824 bytes/,
  ],
  'an alignment that is none': [
    file([LLAMA, number('general.alignment', 48)], [ONE], 32),
    /is 48; expected a power of two/,
  ],
  'an alignment of zero': [file([LLAMA, number('general.alignment', 0)], [ONE], 32), /general\.alignment is 0/],
  'an alignment past all files': [
    file([LLAMA, number('general.alignment', 2 ** 31)], [ONE], 32),
    /general\.alignment is/,
  ],
  'four billion layers': [
    file([LLAMA, number('llama.block_count', 0xffffffff)], [ONE], 32),
    /block_count is 4,294,967,295; expected 0 to 512/,
  ],
  'a context past all numbers': [
    file([LLAMA, number('llama.context_length', 0xffffffff)], [ONE], 32),
    /context_length/,
  ],
  'a tensor with many dimensions': [
    file([LLAMA], [Buffer.concat([text('t'), u32(0xffffffff), u32(0), u64(0)])], 32),
    /dimensions; at most 4/,
  ],
  'a tensor with a long name': [
    file([LLAMA], [tensor('t'.repeat(64), [8], 0)], 32),
    /64 bytes as the name of a tensor/,
  ],
  'a tensor of an unknown type': [file([LLAMA], [tensor('t', [32], 0, 4)], 32), /unknown type 4/],
  'a tensor without items': [file([LLAMA], [tensor('t', [0], 0)], 32), /no tensor of its type has/],
  'a tensor past all numbers': [
    file([LLAMA], [tensor('t', [2n ** 40n, 2n ** 40n], 0)], 32),
    /no tensor of its type has/,
  ],
  'half a block': [file([LLAMA], [tensor('t', [33], 0, 8)], 64), /no tensor of its type has/],
  'a tensor past the end': [
    file([LLAMA], [tensor('t', [1024, 1024], 0)], 32),
    /is incomplete: it has [\d,]+ bytes, and [\d,]+ were expected by its header/,
  ],
  'an offset past the end': [file([LLAMA], [tensor('t', [8], 2n ** 62n)], 32), /where 0 is next/],
  'tensors that share their bytes': [file([LLAMA], [ONE, tensor('two', [8], 0)], 64), /"two" at 0, where 32 is next/],
  'an adapter': [
    file([string('general.type', 'adapter'), LLAMA, string('adapter.type', 'lora')], [ONE], 32),
    /is an adapter \(LoRA\) for another model, and no model: merge it/,
  ],
  'a projector': [
    file([string('general.type', 'mmproj'), LLAMA], [ONE], 32),
    /is a projector \(mmproj\) .* add the language model/,
  ],
  'a projector of an earlier day': [file([string('general.architecture', 'clip')], [ONE], 32), /is a projector/],
  'an importance matrix': [file([string('general.type', 'imatrix')], [ONE], 32), /is an importance matrix/],
  'weights of another kind': [
    Buffer.from('PK\x03\x04 and more'),
    /is no GGUF file: it does not begin with GGUF; it looks like a ZIP archive or PyTorch weights/,
  ],
  'a pointer of Git LFS': [Buffer.from('version https://git-lfs.github.com/spec/v1'), /`git lfs pull`/],
  'a page that says no': [Buffer.from('<!DOCTYPE html>'), /it looks like a web page/],
  'a part of another': [
    file([number('split.count', 3), number('split.no', 1)], [ONE], 32),
    /is part 2 of 3: give the first part/,
  ],
  'more parts than there are': [
    file([number('split.count', 2), number('split.no', 7)], [ONE], 32),
    /says it is part 8 of 2/,
  ],
}

test('each header that claims what is not so is refused, and said what is wrong', async (t) => {
  const folder = await t.tmp()
  const path = join(folder, 'hostile.gguf')
  for (const [what, [bytes, says]] of Object.entries(CORPUS)) {
    await writeFile(path, bytes)
    const err = await failure(checkGguf(path))
    t.ok(err.code === 'MODEL_INVALID' && says.test(err.message), `${what}: ${err.message}`)
  }
  await writeFile(path, file([LLAMA], [ONE, tensor('two', [4, 2], 32)], 64))
  t.is((await checkGguf(path)).paths.length, 1, 'and one that is sound is not')
})

test('a file that is not whole says how much of it there is', async (t) => {
  const path = join(await t.tmp(), 'half.gguf')
  await copyFile(TINY, path)
  await truncate(path, 100_000)
  t.ok(
    (await failure(checkGguf(path))).message.includes(
      'is incomplete: it has 100,000 bytes, and 2,984,000 were expected',
    ),
  )
  await truncate(path, 30_000)
  t.ok(
    (await failure(checkGguf(path))).message.includes(
      'is incomplete: it says it has 2,048 items in tokenizer.ggml.scores',
    ),
  )
  await truncate(path, 20)
  t.ok((await failure(checkGguf(path))).message.endsWith('ends after 20 bytes'))
  await writeFile(path, 'version https://git-lfs.github.com/spec/v1')
  t.ok((await failure(checkGguf(path))).message.includes('does not begin with GGUF; it looks like a Git LFS pointer'))
})

test('pipes, devices, folders and endless files are no models', { skip: process.platform === 'win32' }, async (t) => {
  const folder = await t.tmp()
  const pipe = join(folder, 'pipe.gguf')
  execFileSync('mkfifo', [pipe])
  await mkdir(join(folder, 'folder.gguf'))
  for (const path of [pipe, '/dev/zero', '/dev/stdin', join(folder, 'folder.gguf')]) {
    const { code, message } = await failure(checkGguf(path))
    t.ok(code === 'MODEL_INVALID' && message.endsWith('is no file'), message)
  }
  t.ok((await failure(checkGguf(join(folder, 'none.gguf')))).message.endsWith('does not exist'))
  // A file of a terabyte that takes no room: its header alone is read.
  const sparse = join(folder, 'sparse.gguf')
  await writeFile(sparse, Buffer.concat([head(1, 2), LLAMA, list('tokenizer.ggml.tokens', 8, 1_000_000)]))
  await truncate(sparse, 2 ** 40).catch(() => truncate(sparse, 2 ** 34))
  t.ok((await failure(checkGguf(sparse))).message.endsWith('has a tensor without a name'))
})

test('the largest header that is let in is read within a second and in little memory', async (t) => {
  const path = join(await t.tmp(), 'large.gguf')
  // As many texts as are read, in as many bytes.
  const tokens = list('tokenizer.ggml.tokens', 8, 2 ** 20, Buffer.alloc(2 ** 23))
  const merges = list('tokenizer.ggml.merges', 8, 2 ** 20 - 1, Buffer.alloc(2 ** 23 - 8))
  const handle = await open(path, 'w')
  await handle.write(Buffer.concat([head(1, 10), LLAMA, tokens, merges]))
  const texts = Array.from({ length: 7 }, (_, i) => entry(`licence.${i}`, 8, u64(2 ** 20), Buffer.alloc(2 ** 20)))
  await handle.write(Buffer.concat([...texts, ONE, Buffer.alloc(4096)]))
  await handle.close()
  const memory = process.memoryUsage().rss
  const { user, system } = process.cpuUsage()
  t.is((await checkGguf(path)).paths.length, 1)
  const cpu = process.cpuUsage()
  const ms = (cpu.user + cpu.system - user - system) / 1000
  const mib = (process.memoryUsage().rss - memory) / 2 ** 20
  t.ok(ms < 1000, `${Math.round(ms)} ms of CPU`)
  t.ok(mib < 100, `${Math.round(mib)} MiB`)
})

test('the embedded model’s header, broken in a thousand ways, is read or refused at once', async (t) => {
  const path = join(await t.tmp(), 'broken.gguf')
  const whole = await readFile(TINY)
  await writeFile(path, whole)
  // Behind its header nothing of a file is read.
  const header = Buffer.from(whole.subarray(0, 50_000))
  const dice = new Dice(20_260_131)
  const codes = new Set<string>()
  const { user, system } = process.cpuUsage()
  const handle = await open(path, 'r+')
  for (let i = 0; i < 1000; i++) {
    const bytes = dice.mutated(i % 2 === 0 ? header : header.subarray(0, 3000)).subarray(0, 50_000)
    await handle.write(bytes, 0, bytes.byteLength, 0)
    const outcome = await checkGguf(path).then(
      () => 'read',
      (err) => (err.name === 'MeshError' ? err.code : String(err.stack)),
    )
    codes.add(outcome)
    await handle.write(header, 0, header.byteLength, 0)
  }
  await handle.close()
  const cpu = process.cpuUsage()
  t.alike([...codes].sort(), ['MODEL_INVALID', 'read'])
  const ms = (cpu.user + cpu.system - user - system) / 1000
  t.ok(ms < 5000, `${Math.round(ms)} ms of CPU for all`)
})

test('a model in parts is read, hashed and run as one, and its first part is what is given', async (t) => {
  const folder = await t.tmp()
  const parts = [1, 2].map((i) => join(folder, `m-0000${i}-of-00002.gguf`))
  const [first = '', second = ''] = parts
  const split = (no: number) => [number('split.count', 2), number('split.no', no)]
  await writeFile(first, file([LLAMA, ...split(0)], [ONE], 32))
  t.ok((await failure(checkGguf(first))).message.includes('00002-of-00002.gguf does not exist'))
  await writeFile(second, file([LLAMA, ...split(0)], [ONE], 32))
  t.ok((await failure(checkGguf(first))).message.endsWith('is not part 2 of 2'))
  await writeFile(second, file(split(1), [tensor('two', [8], 0)], 32))
  const files = await checkGguf(first)
  t.alike(files.paths, parts)
  t.is(files.sizeBytes, (await readFile(first)).byteLength + (await readFile(second)).byteLength)
  t.is((await failure(checkGguf(second))).code, 'MODEL_INVALID')
  const { hash } = await identify(first)
  await appendFile(second, 'x')
  t.not((await identify(first)).hash, hash, 'another second part is another model')
})

test('a file that changes while it is read is refused, and a caller that leaves ends the reading', async (t) => {
  const path = join(await t.tmp(), 'model.gguf')
  await copyFile(TINY, path)
  const before = await checkGguf(path)
  await appendFile(path, 'x')
  const after = await checkGguf(path)
  t.exception(() => mustBeSame(path, before, after), /was changed while it was read/)
  const gone = new AbortController()
  gone.abort(new Error('gone'))
  await t.exception(checkGguf(path, gone.signal), /gone/)
  await t.exception(sha256OfFiles([path], gone.signal), /gone/)
  const engine = await startEngine(t, { modelPath: path, known: () => after })
  t.ok((await answer(engine, chat('Hi', { maxTokens: 2 }))).finish.usage.completionTokens > 0)
  await engine.stop()
  await appendFile(path, 'y')
  const err = await failure(engine.load())
  t.ok(err.code === 'MODEL_INVALID' && err.message.includes('was changed'), 'what is loaded is what was announced')
})

test('every type of tensor that the engine knows is known with its size', async (t) => {
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false })
  type SizeOf = (type: number) => number | undefined
  const bindings: { getBlockSizeForGgmlType: SizeOf; getTypeSizeForGgmlType: SizeOf } = Reflect.get(llama, '_bindings')
  const known: Record<string, readonly number[]> = {}
  for (const type of Object.values(GgmlType).filter((one) => typeof one === 'number')) {
    const block = bindings.getBlockSizeForGgmlType(type)
    const bytes = bindings.getTypeSizeForGgmlType(type)
    if (block && bytes) known[type] = [block, bytes]
  }
  t.alike(TENSOR_TYPES, known)
})
