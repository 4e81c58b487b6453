import { MeshError, type Model } from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import type { DoorOptions } from './options.js'

/** `GET /v1/models`: those that the caller's key may use. */
export function modelList(options: DoorOptions, principal: Principal) {
  return {
    object: 'list',
    data: options.catalogue
      .models()
      .filter(({ name }) => mayUse(principal, name))
      .map((model) => modelObject(options, model)),
  }
}

/** `GET /v1/models/{id}`; ids may have slashes. @throws MeshError MODEL_NOT_FOUND */
export function modelById(options: DoorOptions, principal: Principal, id: string) {
  const model = options.catalogue.models().find(({ name }) => name === id && mayUse(principal, name))
  if (model === undefined) {
    throw MeshError.MODEL_NOT_FOUND(`There is no model ${JSON.stringify(id.slice(0, 200))}`, { param: 'model' })
  }
  return modelObject(options, model)
}

function modelObject({ since }: DoorOptions, { name }: Model) {
  // The directory does not keep when a model was added.
  return { id: name, object: 'model', created: Math.floor(since / 1000), owned_by: 'infermesh' }
}

function mayUse({ limits }: Principal, model: string): boolean {
  const all = [limits.key, ...limits.parents.map((parent) => parent.limits), limits.user]
  return all.every(({ models }) => models === undefined || models.includes(model))
}
