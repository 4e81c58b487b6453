import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { startDoor } from './helpers/door.js'
import { missingProgram, testUnless } from './helpers/needs.js'
import { parseFrames, schemaFault } from './helpers/openai-schemas.js'

/** Clients that know no SDK: curl, and Python's http.client. */

const run = promisify(execFile)

const PYTHON = `
import http.client, json, sys
port, key = int(sys.argv[1]), sys.argv[2]
connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
headers = {'Authorization': 'Bearer ' + key, 'Content-Type': 'application/json'}
def ask(method, path, body=None):
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, response.read().decode()
messages = [{'role': 'user', 'content': 'What is the capital of France?'}]
out = {}
out['models'] = ask('GET', '/v1/models')
out['chat'] = ask('POST', '/v1/chat/completions', {'messages': messages, 'temperature': 0})
out['stream'] = ask('POST', '/v1/chat/completions', {'messages': messages, 'temperature': 0, 'stream': True})
out['embeddings'] = ask('POST', '/v1/embeddings', {'input': ['a fox', 'a sum']})
out['wrong'] = ask('POST', '/v1/chat/completions', {'messages': []})
out['again'] = ask('GET', '/v1/models/infermesh-tiny')
print(json.dumps(out))
`

testUnless(missingProgram('curl --version'), 'curl', { timeout: 60_000 }, async (t) => {
  const door = await startDoor(t)
  const curl = async (...args: string[]) =>
    (
      await run('curl', [
        '-sS',
        '-H',
        `Authorization: Bearer ${door.key}`,
        '-H',
        'Content-Type: application/json',
        ...args,
      ])
    ).stdout
  const body = '{"messages":[{"role":"user","content":"What is the capital of France?"}],"temperature":0}'
  const chat = JSON.parse(await curl(`${door.url}/v1/chat/completions`, '-d', body)) as {
    choices: { message: { content: string } }[]
  }
  t.is(schemaFault('chat-completion', chat), undefined)
  t.ok(/Paris/.test(chat.choices[0]?.message.content ?? ''))
  const stream = await curl('-N', `${door.url}/v1/chat/completions`, '-d', body.replace('}]', '}],"stream":true'))
  t.is(parseFrames(stream).at(-1)?.data, '[DONE]')
  const status = await curl('-o', '/dev/null', '-w', '%{http_code}', '-d', 'no JSON', `${door.url}/v1/chat/completions`)
  t.is(status, '400')
  // Above 1 MB curl asks first whether it may send the body.
  const big = JSON.stringify({ input: 'x '.repeat(700_000) })
  const long = await new Promise<string>((resolve, reject) => {
    const child = execFile(
      'curl',
      [
        '-sS',
        '-H',
        `Authorization: Bearer ${door.key}`,
        '-H',
        'Content-Type: application/json',
        '-d',
        '@-',
        `${door.url}/v1/embeddings`,
      ],
      (err, stdout) => (err ? reject(err) : resolve(stdout)),
    )
    child.stdin?.end(big)
  })
  t.is((JSON.parse(long) as { error: { code: string } }).error.code, 'context_length_exceeded')
})

testUnless(
  missingProgram('python3 --version'),
  'Python’s http.client, over one connection',
  { timeout: 60_000 },
  async (t) => {
    const door = await startDoor(t)
    const { stdout } = await run('python3', ['-c', PYTHON, new URL(door.url).port, door.key])
    const out = JSON.parse(stdout) as Record<string, [status: number, body: string]>
    const [, wholeChat = ''] = out.chat ?? []
    t.is(schemaFault('model-list', JSON.parse(out.models?.[1] ?? '')), undefined)
    t.is(schemaFault('chat-completion', JSON.parse(wholeChat)), undefined)
    t.ok(/Paris/.test(wholeChat))
    const frames = parseFrames(out.stream?.[1] ?? '')
    t.is(frames.at(-1)?.data, '[DONE]')
    t.ok(frames.length > 3, `${frames.length} frames`)
    for (const { data } of frames.slice(0, -1))
      t.is(schemaFault('chat-completion-chunk', JSON.parse(data ?? '')), undefined)
    t.is(schemaFault('embedding-list', JSON.parse(out.embeddings?.[1] ?? '')), undefined)
    t.is(out.wrong?.[0], 400)
    t.is(schemaFault('error', JSON.parse(out.wrong?.[1] ?? '')), undefined)
    t.is(out.again?.[0], 200, 'the connection goes on after an error')
  },
)
