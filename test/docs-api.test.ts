import test from 'brittle'
import { z } from 'zod'
import { methods } from '../lib/protocol/index.js'
import { limitsSchema } from '../lib/protocol/records.js'
import { apiRoutes } from '../workers/gateway/api/routes.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** docs/api.md against the routes and the methods behind them. */

const sections = sectionsOf(readPage('api.md'))

interface JsonSchema {
  properties?: Record<string, object>
  required?: string[]
}

/** `GET /usage?from&to` as its path and its query. */
function routeIn(name: string): { path: string; query: string[] } {
  const [path = '', query = ''] = name.split('?')
  return { path, query: query.split('&').filter(Boolean).sort() }
}

test('docs/api.md lists every route with its method, its query and who may use it', (t) => {
  const served = apiRoutes.map(({ http, path, call: { method }, query = {} }) => {
    const { scope } = methods[method]
    const who = scope === 'none' ? 'anyone' : scope === 'key' ? 'everyone' : scope
    const shown = path.replace(/:(\w+)/g, '{$1}').replace('*', '{name}')
    return `${http} ${shown} ${Object.keys(query).sort()} ${who} ${method}`
  })
  const listed = rowsOf(sections, 'Routes').flatMap(([names, , who = '', method]) =>
    namesIn(names).map((name) => {
      const { path, query } = routeIn(name)
      return `${path} ${query} ${who.split(' ')[0]?.replace(',', '')} ${namesIn(method)[0]}`
    }),
  )
  t.alike(listed.sort(), served.sort())
})

test('docs/api.md names the fields of every body', (t) => {
  for (const [names, what = ''] of rowsOf(sections, 'Routes')) {
    const [name = ''] = namesIn(names)
    const route = apiRoutes.find(({ http, path }) => `${http} ${path.replace(/:(\w+)/g, '{$1}')}` === name)
    if (route === undefined || !['POST', 'PATCH'].includes(route.http)) continue
    const { properties = {}, required = [] } = z.toJSONSchema(methods[route.call.method].request, {
      io: 'input',
    }) as JsonSchema
    const inPath = [...route.path.matchAll(/:(\w+)/g)].map(([, param]) => param)
    const told = namesIn(what.split('The answer')[0])
    t.alike(
      told.filter((field) => !(field in properties)),
      [],
      `${name} has what is told`,
    )
    t.alike(
      required.filter((field) => !told.includes(field) && !inPath.includes(field)),
      [],
      `${name}: what it must have is told`,
    )
  }
})

test('docs/api.md lists every limit', (t) => {
  const { properties = {} } = z.toJSONSchema(limitsSchema) as JsonSchema
  t.alike(
    rowsOf(sections, 'Limits').map(([name]) => namesIn(name)[0]),
    Object.keys(properties),
  )
})
