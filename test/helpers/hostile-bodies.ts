/**
 * Bodies that cost those who read them more than their length says, each for the path that it is sent to: most are wrong,
 * and the others ask more than the embedded model can read.
 */

const CHAT = '/v1/chat/completions'
const TEXT = '/v1/completions'
const EMBED = '/v1/embeddings'
const RESPOND = '/v1/responses'

export interface HostileBody {
  what: string
  path: string
  body: string
}

const times = (unit: string, bytes: number): string =>
  Array.from({ length: Math.floor(bytes / (unit.length + 1)) }, () => unit).join(',')
const keys = (bytes: number, key: (i: number) => string, value = '1'): string =>
  Array.from(
    { length: Math.floor(bytes / (key(1e6).length + value.length + 4)) },
    (_, i) => `"${key(i)}":${value}`,
  ).join(',')

/** @param bytes length of each body, about */
export function hostileBodies(bytes: number): HostileBody[] {
  const user = '{"role":"user","content":"x"}'
  const refused: [what: string, path: string, body: string][] = [
    ['brackets', CHAT, '['.repeat(bytes)],
    ['brackets that close', CHAT, `{"messages":${'['.repeat(bytes / 2)}${']'.repeat(bytes / 2)}}`],
    ['objects in objects', CHAT, '{"a":'.repeat(bytes / 5)],
    [
      'deep schema',
      CHAT,
      `{"messages":[${user}],"tools":[{"type":"function","function":{"name":"f","parameters":${'{"a":'.repeat(bytes / 6)}1${'}'.repeat(bytes / 6)}}}]}`,
    ],
    ['one key many times', CHAT, `{${times('"messages":[]', bytes)}}`],
    ['escapes of one key', CHAT, `{"a":1,${keys(bytes, (i) => `\\u006${i % 10}${i}`)}}`],
    ['numbers for messages', CHAT, `{"messages":[${times('1', bytes)}]}`],
    ['empty messages', CHAT, `{"messages":[${times('{}', bytes)}]}`],
    ['more messages than there may be', CHAT, `{"messages":[${times(user, bytes)}]}`],
    ['content parts', CHAT, `{"messages":[{"role":"user","content":[${times('{"type":"text","text":"x"}', bytes)}]}]}`],
    [
      'pictures',
      CHAT,
      `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,${'A'.repeat(bytes)}"}}]}]}`,
    ],
    [
      'tool calls',
      CHAT,
      `{"messages":[{"role":"assistant","tool_calls":[${times('{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}', bytes)}]}]}`,
    ],
    ['tools', CHAT, `{"messages":[${user}],"tools":[${times('{"type":"function"}', bytes)}]}`],
    [
      'allowed tools',
      CHAT,
      `{"messages":[${user}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[${times('1', bytes)}]}}}`,
    ],
    ['stops', CHAT, `{"messages":[${user}],"stop":[${times('1', bytes)}]}`],
    ['logit bias', CHAT, `{"messages":[${user}],"logit_bias":{${keys(bytes, String)}}}`],
    ['logit bias of words', CHAT, `{"messages":[${user}],"logit_bias":{${keys(bytes, (i) => `w${i}`)}}}`],
    ['a field for each letter', CHAT, `{"messages":[${user}],${keys(bytes, (i) => `field${i}`)}}`],
    ['texts', TEXT, `{"prompt":[${times('"a"', bytes)}]}`],
    ['nothings', TEXT, `{"prompt":[${times('null', bytes)}]}`],
    ['lists of one id', TEXT, `{"prompt":[${times('[1]', bytes)}]}`],
    ['ids and a text', EMBED, `{"input":[${times('1', bytes)},"x"]}`],
    ['texts to embed', EMBED, `{"input":[${times('"a"', bytes)}]}`],
    ['items', RESPOND, `{"input":[${times('{}', bytes)}]}`],
    ['metadata', RESPOND, `{"input":"x","metadata":{${keys(bytes, (i) => `m${i}`)}}}`],
    ['no JSON', CHAT, 'x'.repeat(bytes)],
    ['a text without its end', CHAT, `{"messages":[{"role":"user","content":"${'\\"'.repeat(bytes / 2)}`],
    ['no UTF-8', CHAT, `{"messages":"${'\ufffd'.repeat(bytes / 3)}`],
  ]
  const whole: [what: string, path: string, body: string][] = [
    ['one long text', CHAT, `{"messages":[{"role":"user","content":"${'x'.repeat(bytes)}"}]}`],
    ['one long text of escapes', CHAT, `{"messages":[{"role":"user","content":"${'\\u0001'.repeat(bytes / 6)}"}]}`],
    ['as many messages as there may be', CHAT, `{"messages":[${times(user, Math.min(bytes, 300_000))}]}`],
    ['eight answers to a long text', CHAT, `{"n":8,"messages":[{"role":"user","content":"${'x'.repeat(bytes)}"}]}`],
    ['token ids', TEXT, `{"prompt":[${times('123456', Math.min(bytes, 2_000_000))}]}`],
    [
      'schemas',
      CHAT,
      `{"messages":[${user}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{${keys(Math.min(bytes, 200_000), (i) => `p${i}`, '{"type":"string"}')}}}}}]}`,
    ],
    ['texts of a hundred', EMBED, `{"input":[${times(`"${'x'.repeat(900)}"`, bytes)}]}`],
  ]
  return [...refused, ...whole].map(([what, path, body]) => ({ what, path, body }))
}
