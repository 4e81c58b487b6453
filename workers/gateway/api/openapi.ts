import { z } from 'zod'
import { methods } from '../../../lib/protocol/index.js'
import { errorContent, type Json, jsonContent, jsonSchema, type OpenApiPart } from '../http/index.js'
import { type ApiRoute, apiRoutes } from './routes.js'

/** The management API's part of the OpenAPI document, made of the routes and of the methods' own schemas. */

const ERRORS: Record<string, string> = {
  400: 'What was sent is wrong; `param` names the field',
  401: 'No credential, or one that is not valid',
  403: 'The credential does not allow this',
  503: 'The authority cannot be reached now; `Retry-After` says when to try again',
}

/** `/users/:name` as `/users/{name}`, and the names. */
function pathOf({ path }: ApiRoute): { path: string; params: string[] } {
  const params = [...path.matchAll(/:(\w+)|(\*)/g)].map(([, name]) => name ?? 'name')
  return { path: `/api/v1${path.replace(/:(\w+)/g, '{$1}').replace('*', '{name}')}`, params }
}

function operation(route: ApiRoute, params: string[]): Json {
  const { request, response, scope } = methods[route.call.method]
  const parameters = [
    ...params.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
    ...Object.entries(route.query ?? {}).map(([name, description]) => ({
      name,
      in: 'query',
      description,
      schema: { type: 'string' },
    })),
  ]
  const answer = route.find === undefined ? response : itemOf(response, route.find.list)
  return {
    operationId: `${route.http.toLowerCase()}${route.path.replace(/[^a-z]+(\w?)/gi, (_, letter: string) => letter.toUpperCase())}`,
    tags: [route.tag],
    summary: route.summary + (scope === 'admin' ? ' (admins)' : ''),
    security: scope === 'none' ? [] : [{ bearer: [] }],
    ...(parameters.length > 0 && { parameters }),
    ...(route.http !== 'GET' && route.http !== 'DELETE' && { requestBody: bodyOf(request, params) }),
    responses: {
      [route.status]:
        route.status === 204
          ? { description: 'Done' }
          : { description: 'Done', content: jsonContent(jsonSchema(answer, 'output')) },
      ...Object.fromEntries(
        Object.entries({ ...ERRORS, ...(route.call.method === 'login' && { 429: 'Too many attempts' }) }).map(
          ([status, description]) => [status, { description, content: errorContent }],
        ),
      ),
    },
  }
}

function itemOf(response: z.ZodType, list: string): z.core.$ZodType {
  const field = response instanceof z.ZodObject ? response.shape[list] : undefined
  return field instanceof z.ZodArray ? field.element : response
}

/** The method's request, without what the path names or the gateway adds. */
function bodyOf(request: z.ZodType, params: string[]): Json {
  const schema = jsonSchema(request, 'input')
  const hidden = new Set([...params, 'address'])
  const properties = Object.entries(schema.properties ?? {}).filter(([name]) => !hidden.has(name))
  const required = schema.required?.filter((name) => !hidden.has(name)) ?? []
  const body = { ...schema, properties: Object.fromEntries(properties), required }
  return { required: true, content: jsonContent(body) }
}

/** What the management API adds to the OpenAPI document. Made anew at each call. */
export function apiPart(): OpenApiPart {
  const paths: Record<string, Json> = {}
  for (const route of apiRoutes) {
    const { path, params } = pathOf(route)
    paths[path] = { ...paths[path], [route.http.toLowerCase()]: operation(route, params) }
  }
  return { paths }
}
