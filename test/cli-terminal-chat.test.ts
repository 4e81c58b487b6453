import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import { homeFiles } from '../lib/home/index.js'
import { CLI, cliEnv, infermesh, spawnProgram, testHome, until } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { readPage, rowsOf, sectionsOf } from './helpers/page.js'
import { NEEDS, Terminal } from './helpers/terminal.js'

/** Typing in `infermesh chat`, in a real terminal, with a mesh that answers. */

const paste = (text: string) => `\x1b[200~${text}\x1b[201~`

const BOLD_OFF = '\x1b[22m'

/** The messages of a chat, as it saves them. */
async function saved(t: Test, chat: Terminal): Promise<{ role: string; content: string }[]> {
  const file = join(await t.tmp(), 'saved.json')
  chat.type(`/save ${file}\r`)
  await chat.sees(/Saved \d+ messages? in [\s\S]*> $/)
  return (JSON.parse(readFileSync(file, 'utf8')) as { messages: { role: string; content: string }[] }).messages
}

async function leave(t: Test, chat: Terminal): Promise<void> {
  chat.type('/exit\r')
  t.is((await chat.exited).code, 0)
}

/** The commands that a chat lists. */
async function helpOf(chat: Terminal): Promise<string[]> {
  chat.type('/help\r')
  return [...(await chat.sees(/\/exit[\s\S]*> $/)).matchAll(/^(\/[a-z]+(?: [<[][a-z]+[>\]])?) {2,}\S/gm)].map(
    ([, command = '']) => command,
  )
}

testUnless(missingProgram(NEEDS), 'typing in a chat', { timeout: 180_000 }, async (t) => {
  const home = await testHome(t)
  t.teardown(() => infermesh(['down', '--force'], { home }))
  const up = await infermesh(['up', '--detach', '--no-check', '--http-port', '0', '--metrics-port', '0'], { home })
  t.is(up.code, 0, up.stderr)
  const open = async (args: string[] = [], columns?: number) => {
    const chat = new Terminal(t, home, ['chat', ...args], { columns })
    await chat.sees(/Connected with gateway[\s\S]*> $/)
    return chat
  }

  await t.test('Ctrl-Z in a terminal without a shell, as that of a container, is nothing', async (t) => {
    const chat = await open()
    chat.type('\x1a')
    await chat.sees(/> $/)
    chat.type('/stats\r')
    await chat.sees(/No answer yet[\s\S]*> $/)
    chat.type('\x03')
    await chat.sees(/Ctrl-C again[\s\S]*> $/)
    await leave(t, chat)
  })

  await t.test('neither history nor names of files say anything to the terminal', async (t) => {
    const folder = await t.tmp()
    for (const name of ['evil\x1b]0;title\x07one', 'evil\ntwo', 'evil three']) writeFileSync(join(folder, name), '')
    symlinkSync('loop', join(folder, 'loop'))
    writeFileSync(homeFiles(home).chatHistory, 'before\x1b]0;title\x07\n')
    const chat = await open()
    chat.type('\x1b[A')
    await chat.sees(/before\]0;title$/)
    chat.type(`\x15/save ${folder}/\t\t`)
    await chat.sees(/evil three {2}\S*loop/)
    chat.type('ev\t')
    await chat.sees(/evil three$/)
    t.absent(chat.raw.includes('\x1b]'), 'no sequence of theirs')
    chat.type('\x03')
    await leave(t, chat)
  })

  await t.test('what is pasted is one message, edited and sent as such', async (t) => {
    const chat = await open()
    t.ok(chat.raw.includes('\x1b[?2004h'), 'the terminal is asked to mark what is pasted')
    chat.type(paste('What is\r\nthe capitol\rof France'))
    t.ok(/> What is\n… the capitol\n… of France$/.test(await chat.sees(/of France$/)), 'shown as it is')
    // Up a line, to its end, and two letters further back than the wrong one.
    chat.type('\x1b[A\x05\x1b[D\x7fa\x1b[B\x05?')
    await chat.sees(/of France\?$/)
    chat.type('\r')
    await chat.sees(/tokens? in[\s\S]*> $/)
    const [first, answer, ...others] = await saved(t, chat)
    t.alike(first, { role: 'user', content: 'What is\nthe capital\nof France?' })
    t.is(answer?.role, 'assistant')
    t.is(others.length, 0, 'nothing else was sent')
    await leave(t, chat)
    const again = await open()
    again.type('\x1b[A\x1b[A\x1b[A')
    t.ok(/What is\n… the capital\n… of France\?$/.test(await again.sees(/France\?$/)), 'one entry of the history')
    again.type('\x03')
    await again.sees(/> $/)
    await leave(t, again)
    t.ok(again.raw.includes('\x1b[?2004l'), 'the terminal is given back as it was')
  })

  await t.test('"""  and Alt-Enter make messages of several lines', async (t) => {
    const chat = await open()
    chat.type('"""\r')
    await chat.sees(/… $/)
    chat.type('Name \\\r')
    await chat.sees(/… $/)
    chat.type('a colour.\r')
    await chat.sees(/… $/)
    chat.type('"""\r')
    await chat.sees(/tokens? in[\s\S]*> $/)
    chat.type('Another\x1b\rone.\r')
    await chat.sees(/tokens? in[\s\S]*> $/)
    const asked = (await saved(t, chat)).filter(({ role }) => role === 'user').map(({ content }) => content)
    t.alike(asked, ['Name \\\na colour.', 'Another\none.'])
    await leave(t, chat)
  })

  await t.test('a long line and wide characters stay what they are, however narrow the terminal', async (t) => {
    const chat = await open([], 24)
    const question = `Say ${'日本語 e\u0301 👍 '.repeat(6)}again`
    chat.type(question)
    await chat.sees(/again$/)
    chat.type('\x7f\x7f\x7f\x7f\x7fonce\r')
    await chat.sees(/in[\s\S]*> $/)
    t.is((await saved(t, chat))[0]?.content, question.replace('again', 'once'))
    await leave(t, chat)
  })

  await t.test('Tab completes commands, models and files', async (t) => {
    const dir = await t.tmp()
    mkdirSync(join(dir, 'notes'))
    const chat = await open()
    chat.type('/mo\t')
    await chat.sees(/\/model $/)
    chat.type('\t')
    await chat.sees(/infermesh-tiny$/)
    chat.type('\r')
    await chat.sees(/Answers come from infermesh-tiny now[\s\S]*> $/)
    chat.type('/s\t')
    t.ok(/\/save +\/stats +\/status +\/system/.test(await chat.sees(/\/s$/)), 'where several fit they are shown')
    chat.type(`ave ${dir}/no\t`)
    await chat.sees(/\/notes\/$/)
    chat.type('\r')
    await chat.sees(/is a folder[\s\S]*> $/)
    chat.type('/save /nonexistent/x.json\r')
    await chat.sees(/\/nonexistent does not exist[\s\S]*> $/)
    chat.type('no command\t')
    t.ok(/no command$/.test(await chat.sees(/no command$/)))
    chat.type('\x03')
    await chat.sees(/> $/)
    await leave(t, chat)
  })

  await t.test('Ctrl-C and Ctrl-D leave clean lines', async (t) => {
    const chat = await open()
    chat.type('dropped\x03')
    await chat.sees(/dropped\n> $/)
    chat.type('\x03')
    await chat.sees(/\nCtrl-C again, Ctrl-D or \/exit leaves\n> $/)
    chat.type('Tell me a very long story.\r')
    await chat.sees(/story\.\n\S/)
    // Not shown while the answer comes, and there afterwards.
    chat.type('\x03typed ahead')
    await chat.sees(/> typed ahead$/)
    chat.type('\x03\x04')
    const { code, stdout } = await chat.exited
    t.is(code, 0)
    t.ok(
      stdout.replaceAll(BOLD_OFF, '').replaceAll('\r', '').endsWith('> \n\x1b[?2004l'),
      JSON.stringify(stdout.slice(-60)),
    )
    t.absent(stdout.includes('^C'), 'no ^C anywhere')
  })

  await t.test('an unknown model is said at once', async (t) => {
    const chat = new Terminal(t, home, ['chat', '-m', 'nope'])
    const { code, stdout } = await chat.exited
    t.is(code, 64)
    t.ok(/The mesh has no model nope; it has infermesh-tiny/.test(stdout), stdout)
    t.absent(stdout.includes('> '), 'before anything is asked for')
  })

  await t.test('an answer that a budget cut says so', async (t) => {
    const made = await infermesh(['keys', 'create', '--budget', '45/total', '--json'], { home })
    const { key } = JSON.parse(made.stdout) as { key: string }
    const asked = ['run', 'Tell me a very long story.', '--key', key]
    const cut = new Terminal(t, home, asked)
    t.is((await cut.exited).code, 0)
    t.ok(
      /The answer is cut by the budget, which has no more tokens: `infermesh whoami` tells what is left/.test(cut.raw),
      cut.raw,
    )
    const refused = new Terminal(t, home, asked)
    t.is((await refused.exited).code, 77)
  })

  await t.test('/help lists what docs/cli.md tells, and nothing else', async (t) => {
    const chat = await open()
    const here = await helpOf(chat)
    await leave(t, chat)
    const started = new Terminal(t, await testHome(t), ['up', '--no-check', '--http-port', '0', '--metrics-port', '0'])
    await started.sees(/> $/, 60_000)
    const inUp = await helpOf(started)
    started.type('\x04')
    t.is((await started.exited).code, 0)
    const rows = rowsOf(sectionsOf(readPage('cli.md')), '`infermesh chat`').map(([command = '', told = '']) => ({
      command: /`(\/[^`]+)`/.exec(command)?.[1],
      isOfUp: told.startsWith('in the chat of `up`'),
    }))
    const told = rows.filter(({ command }) => command !== undefined)
    t.alike([...inUp].sort(), told.map(({ command }) => command).sort())
    t.alike(
      [...here].sort(),
      told
        .filter(({ isOfUp }) => !isOfUp)
        .map(({ command }) => command)
        .sort(),
    )
    t.ok(inUp.includes('/key') && inUp.includes('/restarts') && !here.includes('/key'))
  })

  await t.test('over pipes the first failure is the exit code, and Ctrl-C ends it', async (t) => {
    const run = (input: string) => infermesh(['chat'], { home, input })
    const failed = await run('/model none\n/nonsense\n/save /nonexistent/x\nWhat is the capital of France?\n')
    t.is(failed.code, 64)
    t.ok(/Paris/.test(failed.stdout), 'what follows is asked all the same')
    t.is(failed.stderr.trim().split('\n').length, 3, failed.stderr)
    t.ok(/^infermesh: The mesh has no model none/.test(failed.stderr))
    const made = await infermesh(['keys', 'create', '--rpm', '1', '--json'], { home })
    const { key } = JSON.parse(made.stdout) as { key: string }
    const limited = await infermesh(['chat', '--key', key], { home, input: 'Hello\nHello\n/nonsense\n' })
    t.is(limited.code, 75, 'the first that failed')
    const waiting = spawnProgram(t, [process.execPath, CLI, 'chat'], { env: cliEnv(home), input: 'typed' })
    waiting.process.stdin?.write('/model\n')
    await until(() => /infermesh-tiny/.test(waiting.stdout), 'it reads what comes')
    waiting.process.kill('SIGINT')
    t.is((await waiting.exited).code, 130)
    t.is((await run('"""\nWhat is the capital\nof France?\n"""\n')).code, 0)
  })

  t.ok(readFileSync(homeFiles(home).chatHistory, 'utf8').includes('What is\n\tthe capital\n\tof France?\n'))
})
