import { readFileSync, statSync } from 'node:fs'
import { homeFiles } from '../lib/home/index.js'
import { infermesh, testHome } from './helpers/mesh.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { NEEDS, Terminal } from './helpers/terminal.js'

/** The command as a person has it: in a terminal, with what is drawn, asked and interrupted there. */

testUnless(missingProgram(NEEDS), 'a person in a terminal', { timeout: 180_000 }, async (t) => {
  const home = await testHome(t)
  const up = new Terminal(t, home, ['up', '--http-port', '0', '--metrics-port', '0'])

  await t.test('up draws its workers, asks a first question and ends in a chat', async (t) => {
    const start = await up.sees(/> $/, 60_000)
    t.ok(/^ROLE +NAME +STATE/m.test(start), 'a table of workers')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the table is drawn over itself
    t.ok(/\x1b\[\d+A\x1b\[J/.test(up.raw), 'drawn over itself')
    t.ok(/first question +\S/.test(start) && /first token .* tokens in /.test(start))
    t.ok(/^key +im_\w+_…/m.test(start), 'the key is not shown whole')
  })

  await t.test('its chat answers, and has commands of its own', async (t) => {
    up.type('What is the capital of France?\r')
    const answer = await up.sees(/tokens in [\s\S]*> $/)
    t.ok(/Paris/.test(answer) && /infermesh-tiny \S+ on processor through gateway/.test(answer), answer)
    up.type('/help\r')
    const help = await up.sees(/\/exit[\s\S]*> $/)
    t.ok(/\/restarts/.test(help) && /\/key/.test(help))
    up.type('/restarts\r')
    t.ok(/gateway gateway: 0/.test(await up.sees(/processor processor: 0[\s\S]*> $/)))
    up.type('/key\r')
    t.ok((await up.sees(/im_\w{20,}[\s\S]*> $/)).includes(readFileSync(homeFiles(home).adminKey, 'utf8').trim()))
    up.type('/status\r')
    t.ok(/^processor +processor +ready/m.test(await up.sees(/SLOTS|LOAD[\s\S]*> $/)))
    up.type('/model\r')
    t.ok(/infermesh-tiny/.test(await up.sees(/Q8_0[\s\S]*> $/)))
    up.type('/stats\r')
    t.ok(/^speed +[\d.]+ tokens\/s/m.test(await up.sees(/speed[\s\S]*> $/)))
  })

  await t.test('a chat: system messages, long lines, the history, Ctrl-C', async (t) => {
    const chat = new Terminal(t, home, ['chat', '--system', 'Be brief.'])
    await chat.sees(/Connected with gateway[\s\S]*> $/)
    chat.type('/stats\r')
    t.ok(/No answer yet/.test(await chat.sees(/yet[\s\S]*> $/)))
    chat.type('/system\r')
    await chat.sees(/No system message any more[\s\S]*> $/)
    chat.type('/system Answer in verse.\r')
    await chat.sees(/is set[\s\S]*> $/)
    chat.type('What is \\\r')
    await chat.sees(/… $/)
    chat.type('the capital of France?\r')
    t.ok(/Paris/.test(await chat.sees(/tokens in[\s\S]*> $/)), 'a line that goes on')
    chat.type('/model none\r')
    t.ok(/has no model none/.test(await chat.sees(/none;[\s\S]*> $/)))
    chat.type('/model infermesh-tiny\r')
    await chat.sees(/come from infermesh-tiny[\s\S]*> $/)
    chat.type('/save\r')
    await chat.sees(/Say where[\s\S]*> $/)
    chat.type('half a li\x03')
    await chat.sees(/half a li\n> $/)
    chat.type('\x03')
    await chat.sees(/Ctrl-C again, Ctrl-D or \/exit[\s\S]*> $/)
    chat.type('\x03')
    t.is((await chat.exited).code, 0, 'twice leaves')
    const { chatHistory } = homeFiles(home)
    t.is(statSync(chatHistory).mode & 0o777, 0o600)
    t.ok(readFileSync(chatHistory, 'utf8').includes('/model infermesh-tiny\n'))
  })

  await t.test('Ctrl-C stops an answer, and the chat goes on', async (t) => {
    const chat = new Terminal(t, home, ['chat'])
    await chat.sees(/> $/)
    for (let attempt = 0; ; attempt++) {
      chat.type('Tell me a very long story.\r')
      await chat.sees(/story\.\n\S/)
      chat.type('\x03')
      // A short story may have ended before it was stopped.
      const shown = await chat.sees(/(\(stopped\)|tokens in|Ctrl-C again)[\s\S]*> $/)
      if (/\(stopped\)/.test(shown) || attempt > 20) {
        t.ok(/\(stopped\)/.test(shown), shown)
        break
      }
    }
    chat.type('/exit\r')
    t.is((await chat.exited).code, 0)
  })

  await t.test('a password is asked for twice and never shown', async (t) => {
    const add = async (first: string, second: string) => {
      const terminal = new Terminal(t, home, ['users', 'add', 'ann', '--password', '--budget', '2M/month'])
      await terminal.sees(/Password for ann: $/)
      terminal.type(`${first}\r`)
      await terminal.sees(/The same again: $/)
      terminal.type(`${second}\r`)
      const { code, stdout } = await terminal.exited
      return { code, stdout }
    }
    const differ = await add('correct horse', 'correct house')
    t.is(differ.code, 64)
    t.ok(/The two passwords differ/.test(differ.stdout))
    const added = await add('correct horse', 'correct horse')
    t.is(added.code, 0, added.stdout)
    t.ok(/User ann is added, limits: 2M tokens a month/.test(added.stdout))
    t.absent(/horse/.test(added.stdout))
    const interrupted = new Terminal(t, home, ['users', 'passwd', 'ann'])
    await interrupted.sees(/Password for ann: $/)
    interrupted.type('\x03')
    t.is((await interrupted.exited).code, 130)
  })

  await t.test('what is printed has colours, unless they are switched off', async (t) => {
    const status = new Terminal(t, home, ['status'])
    t.is((await status.exited).code, 0)
    t.ok(status.raw.includes('\x1b[32mready\x1b[39m'))
    const plain = await infermesh(['status'], { home })
    t.absent(plain.stdout.includes('\x1b'))
    const cut = new Terminal(t, home, ['run', 'Tell me a story.', '--max-tokens', '5'])
    t.is((await cut.exited).code, 0)
    t.ok(/\(cut at the longest length, after/.test(cut.raw))
    const doctor = new Terminal(t, home, ['doctor'])
    t.is((await doctor.exited).code, 0)
    t.ok(doctor.raw.includes('\x1b[32mok  \x1b[39m'))
  })

  await t.test('logs -f goes on until Ctrl-C', async (t) => {
    const logs = new Terminal(t, home, ['logs', 'gateway', '-f', '-n', '1'])
    await logs.sees(/INFO +gateway/)
    logs.type('\x03')
    t.not((await logs.exited).code, 0)
  })

  await t.test('leaving the chat stops the workers', async (t) => {
    up.type('\x04')
    t.is((await up.exited).code, 0)
    t.is((await infermesh(['down'], { home })).stdout, `Nothing runs in ${home}\n`)
  })
})
