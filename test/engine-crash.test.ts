import { once } from 'node:events'
import { copyFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'brittle'
import { cpuReason } from '../workers/processor/engine/model.js'
import { Engine } from '../workers/processor/index.js'
import { answer, chat, engineOptions, failure, STAND_IN, startEngine, TINY } from './engine-kit.js'
import { gguf } from './gguf-kit.js'

test('a killed engine fails what runs at once and is started again', async (t) => {
  const engine = await startEngine(t)
  const format = { type: 'grammar' as const, grammar: 'root ::= [a-z ]*' }
  const running = failure(answer(engine, chat('Tell me a story about a fox.', { format })))
  await once(engine, 'step')
  const pid = engine.pid as number
  const killedAt = performance.now()
  process.kill(pid, 'SIGKILL')
  t.is((await running).code, 'ENGINE_FAILED')
  const tookMs = performance.now() - killedAt
  t.ok(tookMs < 1000, `${tookMs.toFixed(0)} ms`)
  t.is((await failure(answer(engine, chat('Hi')))).code, 'BUSY')
  while (engine.state !== 'loaded') await once(engine, 'change')
  t.not(engine.pid, pid)
  t.ok((await answer(engine, chat('What is the capital of France?'))).text.includes('Paris'))
})

test('an engine that crashes again and again is started with growing pauses', async (t) => {
  const engine = await startEngine(t, {
    modulePath: STAND_IN,
    env: { STAND_IN_DIE_AFTER: '1', STAND_IN_TOKENS_PER_S: '1000' },
  })
  const pauses: number[] = []
  for (let i = 0; i < 4; i++) {
    t.is((await failure(answer(engine, chat('x')))).code, 'ENGINE_FAILED')
    const diedAt = performance.now()
    while (engine.pid === undefined) await once(engine, 'change')
    pauses.push(performance.now() - diedAt)
    while (engine.state !== 'loaded') await once(engine, 'change')
  }
  t.ok((pauses[3] ?? 0) > (pauses[0] ?? 0) + 50, pauses.map((ms) => ms.toFixed(0)).join(' '))
})

test('a stopped engine leaves no process and can be loaded again', async (t) => {
  const engine = await startEngine(t)
  const pid = engine.pid as number
  const running = failure(answer(engine, chat('Tell me a story about a fox.')))
  await engine.stop()
  t.is((await running).code, 'ENGINE_FAILED')
  t.absent(isRunning(pid))
  t.is(engine.state, 'stopped')
  await engine.load()
  t.is((await answer(engine, chat('Hi', { maxTokens: 1 }))).ids.length, 1)
})

test('files that are no whole model are refused with a reason', async (t) => {
  const folder = await t.tmp()
  const refusal = async (path: string) => {
    const engine = new Engine(engineOptions({ modelPath: path }))
    t.teardown(() => engine.stop())
    const err = await failure(engine.load())
    t.is(engine.state, 'failed')
    t.is(err.code, 'MODEL_INVALID')
    t.comment(err.message)
    return err.message
  }
  const text = join(folder, 'text.gguf')
  await writeFile(text, 'not a model at all, only text')
  t.ok((await refusal(text)).includes('is no GGUF file'))

  const old = join(folder, 'old.gguf')
  const header = Buffer.alloc(24)
  header.write('GGUF')
  header.writeUInt32LE(1, 4)
  await writeFile(old, header)
  t.ok((await refusal(old)).includes('version 1'))

  const short = join(folder, 'short.gguf')
  await copyFile(TINY, short)
  await truncate(short, 1_000_000)
  t.ok((await refusal(short)).includes('incomplete: it has 1,000,000 bytes, and 2,984,000 were expected'))
  const strange = join(folder, 'strange.gguf')
  await writeFile(strange, gguf.file([gguf.string('general.architecture', 'cat')], [gguf.tensor('t', [8], 0)], 32))
  t.ok(/has the architecture cat, which .* does not know/.test(await refusal(strange)), 'what only llama.cpp knows')

  const headless = join(folder, 'headless.gguf')
  await copyFile(TINY, headless)
  await truncate(headless, 5000)
  t.ok((await refusal(headless)).length > 30)

  t.ok((await refusal(join(folder, 'missing.gguf'))).includes('does not exist'))
})

test('a GPU that is asked for and is not there is a clear error', async (t) => {
  const engine = new Engine(engineOptions({ gpu: 'metal' }))
  t.teardown(() => engine.stop())
  const err = await failure(engine.load())
  t.is(err.code, 'CONFIG_INVALID')
  t.ok(err.message.includes('metal'), err.message)
})

test('a back end that is not installed is named with the command that installs it', async (t) => {
  for (const gpu of ['cuda', 'vulkan'] as const) {
    const engine = new Engine(engineOptions({ gpu }))
    t.teardown(() => engine.stop())
    const err = await failure(engine.load())
    t.is(err.code, 'CONFIG_INVALID')
    t.ok(err.message.includes(`\`infermesh gpu install ${gpu}\` installs it`), err.message)
  }
  t.is(cpuReason('linux', false), 'auto: CUDA and Vulkan did not find a device that it can use on this machine')
  t.ok(cpuReason('linux', true).endsWith("It has NVIDIA's driver: `infermesh gpu install cuda` installs the back end"))
})

test('an engine ends when its processor is gone', async (t) => {
  const { fork } = await import('node:child_process')
  const { ENGINE_MODULE } = await import('../workers/processor/engine/index.js')
  const child = fork(ENGINE_MODULE)
  t.teardown(() => child.kill('SIGKILL'))
  await once(child, 'message')
  child.disconnect()
  const [code] = await once(child, 'exit')
  t.is(code, 0)
})

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
