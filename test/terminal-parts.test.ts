import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { Editor } from '../cli/terminal/editor.js'
import { History } from '../cli/terminal/history.js'
import { type Key, KeyReader } from '../cli/terminal/keys.js'
import { Markdown } from '../cli/terminal/markdown.js'
import { messagesOf, messageText } from '../cli/terminal/messages.js'
import { charactersOf, widthOf } from '../cli/terminal/width.js'
import { Dice } from './helpers/dice.js'

/** What a terminal sends, and what becomes of it. */

/** What a reader makes of bytes that come in these pieces. */
function keysOf(...pieces: (string | Buffer)[]): Key[] {
  const reader = new KeyReader()
  return pieces.flatMap((piece) => reader.read(Buffer.from(piece), 0))
}

/** A text after keys, with `|` where the cursor stands. */
function edited(editor: Editor, ...input: string[]): string {
  for (const key of keysOf(...input)) editor.press(key)
  return `${editor.text.slice(0, editor.cursor)}|${editor.text.slice(editor.cursor)}`
}

const paste = (text: string) => `\x1b[200~${text}\x1b[201~`

test('keys are read whatever pieces their bytes come in', (t) => {
  const typed = `a日\x1b[A\x1b[1;5D${paste('one\r\ntwo\rthree\x1b[31m\x07')}\x1b\r\x03`
  const expected = [
    { name: 'text', text: 'a日' },
    { name: 'up', text: '' },
    { name: 'word-left', text: '' },
    { name: 'paste', text: 'one\ntwo\nthree[31m' },
    { name: 'newline', text: '' },
    { name: 'interrupt', text: '' },
  ]
  t.alike(keysOf(typed), expected)
  const bytes = Buffer.from(typed)
  const single = keysOf(...Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))
  const joined: Key[] = []
  for (const key of single) {
    const last = joined.at(-1)
    if (key.name === 'text' && last?.name === 'text') joined[joined.length - 1] = { ...key, text: last.text + key.text }
    else joined.push(key)
  }
  t.alike(joined, expected, 'byte by byte')
  t.alike(
    ['\x1b[13;2u', '\x1b[27;2;13~', '\x1b\r'].map((sequence) => keysOf(sequence)[0]?.name),
    ['newline', 'newline', 'newline'],
    'Enter with Shift or Alt, where the terminal tells it',
  )
  t.alike(keysOf('\x1b[99;99;99Zx').at(-1), { name: 'text', text: 'x' }, 'a key that nobody knows is nothing')
  for (const begun of ['\x1b', '\x1b[', '\x1bO', '\x1b[1;', `\x1b[${'1;'.repeat(100)}`]) {
    t.alike(keysOf(begun, '\x03').at(-1)?.name, 'interrupt', 'no sequence that was only begun takes Ctrl-C')
    t.alike(keysOf(begun, 'é').at(-1)?.text, begun === '\x1b' ? undefined : 'é', 'or a letter')
  }
  t.alike(keysOf('\x1b\x1b[A'), [{ name: 'up', text: '' }], 'Escape, and at once an arrow')
  const reader = new KeyReader()
  reader.read(Buffer.from('\x1b'), 0)
  t.alike(reader.read(Buffer.from('b'), 500), [{ name: 'text', text: 'b' }], 'Escape, and later a letter')
})

test('a text is edited by characters as people see them, over several lines', async (t) => {
  const history = new History(join(await t.tmp(), 'history'))
  history.add('older')
  history.add('newer\nof two lines')
  const editor = new Editor(history)
  t.is(edited(editor, 'né👩‍👩‍👧日', '\x7f', '\x7f'), 'né|')
  t.is(edited(editor, '\x1b[D', 'x', '\x15'), '|é', 'the line before the cursor goes')
  t.is(edited(editor, '\x19'), 'nx|é', 'and comes back')
  t.is(edited(editor, '\x1f', '\x1f'), 'nx|é', 'undone twice: the paste of it and its removal')
  t.is(edited(editor, '\x01', '\x0b'), '|')
  t.is(edited(editor, paste('one word\ntwo\n\nlong line')), 'one word\ntwo\n\nlong line|')
  t.is(edited(editor, '\x1b[A', '\x1b[A', '!'), 'one word\n!two\n\nlong line|'.replace('|', '').replace('!', '!|'))
  t.is(edited(editor, '\x1b[A', '\x05', '\x17'), 'one |\n!two\n\nlong line', 'a word')
  t.is(edited(editor, '\x1b[A'), 'newer\nof two lines|', 'above the first line is the history')
  t.is(edited(editor, '\x1b[A', '\x1b[A'), 'older|')
  t.is(edited(editor, '\x1b[A'), 'older|', 'nothing is older')
  t.is(edited(editor, '\x1b[B', '\x1b[B'), 'one \n!two\n\nlong line|', 'and back to what was written')
})

test('Enter ends a message unless its lines go on', async (t) => {
  const editor = new Editor(new History(join(await t.tmp(), 'history')))
  const enter: Key = { name: 'enter', text: '' }
  edited(editor, 'What is \\')
  t.absent(editor.press(enter))
  edited(editor, 'this?')
  t.ok(editor.press(enter))
  t.is(editor.take(), 'What is \nthis?')
  edited(editor, '"""one')
  t.absent(editor.press(enter))
  edited(editor, 'two \\')
  t.absent(editor.press(enter))
  edited(editor, '"""')
  t.ok(editor.press(enter))
  t.is(messageText(editor.take()), 'one\ntwo \\')
  edited(editor, paste('"""A docstring."""\nimport this\n'))
  t.ok(editor.press(enter), 'what opens and closes is whole')
  t.is(messageText(editor.take()), '"""A docstring."""\nimport this')
})

test('lines of a pipe make messages as lines of a terminal do', async (t) => {
  async function* lines() {
    yield* ['Hello', 'a \\', 'b', '"""', 'one', '', 'two \\', '"""', '"""short"""', '"""never', 'closed']
  }
  const messages: string[] = []
  for await (const message of messagesOf(lines())) messages.push(message)
  t.alike(messages, ['Hello', 'a \nb', 'one\n\ntwo \\', 'short', 'never\nclosed'])
})

test('a long message of a pipe takes no longer for each line than for the one before', async (t) => {
  const count = 40_000
  for (const [first, line] of [
    ['"""', 'a line of what is piped in, some fifty letters long'],
    ['', '""" in a line that goes on \\'],
  ] as const) {
    async function* lines() {
      yield first === '' ? 'It begins \\' : first
      for (let i = 0; i < count; i++) yield line
    }
    const startedAt = performance.now()
    for await (const message of messagesOf(lines())) t.ok(message.split('\n').length >= count, 'one message')
    t.ok(performance.now() - startedAt < 2000, 'read in less than 2 s')
  }
})

test('the history keeps what was pasted as one entry, and reads what earlier builds wrote', async (t) => {
  const file = join(await t.tmp(), 'history')
  writeFileSync(file, '/model a\nold \\n line\n')
  const before = new History(file)
  t.alike([before.at(0), before.at(1), before.at(2)], ['old \\n line', '/model a', undefined])
  const pasted = 'def f():\n\treturn 1\n\nf()'
  before.add('\n\tindented first')
  before.add(pasted)
  before.add('/model a')
  before.add('x'.repeat(100_000))
  t.is(statSync(file).mode & 0o777, 0o600)
  const after = new History(file)
  t.alike(
    [0, 1, 2, 3, 4].map((age) => after.at(age)),
    ['/model a', pasted, 'indented first', 'old \\n line', undefined],
    'the same again once, and nothing that is very long',
  )
  for (let i = 0; i < 600; i++) after.add(`line ${i}`)
  t.is(readFileSync(file, 'utf8').trimEnd().split('\n').length, 500)
})

test('characters have the width that terminals give them', (t) => {
  const widths = Object.entries({
    abc: 3,
    'e\u0301': 1,
    日本: 4,
    한: 2,
    '👍🏽': 2,
    '👩‍👩‍👧': 2,
    '\u200b': 0,
    ａ: 2,
    '…': 1,
  })
  for (const [text, width] of widths) t.is(widthOf(text), width, text)
  t.alike(charactersOf('e\u0301日👩‍👩‍👧'), ['e\u0301', '日', '👩‍👩‍👧'])
})

/** What stands in a style, and all of it, with a text given in pieces of a length. */
function styled(text: string, length: number): { whole: string; styles: Record<string, string[]> } {
  const markdown = new Markdown()
  const pieces = []
  for (let at = 0; at < text.length; at += length) pieces.push(...markdown.write(text.slice(at, at + length)))
  pieces.push(...markdown.end())
  const styles: Record<string, string[]> = {}
  let last = ''
  for (const { text: part, styles: names } of pieces) {
    const name = names.join('+')
    const list = styles[name] ?? []
    styles[name] = list
    if (name === last && list.length > 0) list[list.length - 1] += part
    else list.push(part)
    last = name
  }
  return { whole: pieces.map((piece) => piece.text).join(''), styles }
}

const ANSWER = `# A title
Some **bold**, *italic*, ***both*** and \`co*de\`; 2 * 3 ** 4, snake_case, f(**kwargs) and 5*6*7.
- item
* another **unfinished
  12. third \\*not this\\*
> said
\`\`\`\`js
let a = \`\${b}\` ** 2 // **
\`\`\`
\`\`\`\`
\`\`two \` ticks\`\` end **`

test('Markdown is styled the same in whatever pieces it comes', (t) => {
  const { whole, styles } = styled(ANSWER, 1)
  t.is(whole, ANSWER)
  t.alike(styles.heading, [' A title'])
  t.alike(styles.bold, ['bold', 'kwargs) and 5*6*7.', '-', '*', 'unfinished', '  12.', '>'])
  t.alike(styles.italic, ['italic'])
  t.alike(styles['bold+italic'], ['both'])
  t.alike(styles.code?.join('').replaceAll('\n', ''), `co*dejslet a = \`\${b}\` ** 2 // **\`\`\`two \` ticks`)
  for (let length = 2; length <= ANSWER.length; length++) t.alike(styled(ANSWER, length).styles, styles, `by ${length}`)
})

test('no character of any text is lost or moved by styling it', (t) => {
  const signs = ['*', '**', '`', '```', '\n', ' ', '#', '- ', '1.', '~~~', '\\', 'word', '日', '>', '\t', 'a']
  const dice = new Dice(7)
  let wrong = 0
  for (let i = 0; i < 3000; i++) {
    const text = Array.from({ length: dice.below(40) }, () => dice.one(signs)).join('')
    if (styled(text, 1 + dice.below(5)).whole !== text) wrong++
  }
  t.is(wrong, 0)
})
