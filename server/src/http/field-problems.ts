import type { FastifySchemaValidationError } from 'fastify';
import type { FieldProblem } from '../kernel/errors.ts';

type Failure = FastifySchemaValidationError;

/**
 * What a schema found wrong with a request, field by field. Where a value may be one of several things, the validator
 * tells why it is none of them; here only what keeps it from being the one that it is nearest to.
 *
 * `part`: what is meant where a problem is of no field.
 */
export function fieldProblems(failures: readonly Failure[], part: string): FieldProblem[] {
  return withoutFarBranches(failures).map(({ instancePath, keyword, params, message }) => {
    const extra = params.missingProperty ?? params.additionalProperty;
    const path = instancePath.slice(1).replaceAll('/', '.');
    const leaf = typeof extra === 'string' ? extra : '';
    return {
      path: [path, leaf].filter((each) => each !== '').join('.') || part,
      message: messageOf(keyword, params, message),
    };
  });
}

function messageOf(keyword: string, params: Failure['params'], message: string | undefined): string {
  switch (keyword) {
    case 'required':
      return 'is required';
    case 'additionalProperties':
      return 'is not a known field';
    case 'enum':
      return `must be one of ${JSON.stringify(params.allowedValues)}`;
    case 'type':
      return `must be ${[params.type].flat().join(' or ')}`;
    default:
      return message ?? 'is not valid';
  }
}

function withoutFarBranches(failures: readonly Failure[]): readonly Failure[] {
  const unions = failures.filter(({ keyword }) => keyword === 'anyOf');
  // Those within others first: an outer one counts what is left of them.
  unions.sort((a, b) => b.schemaPath.length - a.schemaPath.length);
  return unions.reduce<readonly Failure[]>((left, union) => {
    const branches = [...branchesOf(left, union).values()];
    const nearest = nearestOf(branches, union.instancePath);
    return left.flatMap((failure) => {
      if (failure === union) return nearest;
      return branches.some((branch) => branch.includes(failure)) ? [] : [failure];
    });
  }, failures);
}

/** The failures of a union's alternatives, by the place of the alternative. */
function branchesOf(failures: readonly Failure[], { schemaPath, instancePath }: Failure): Map<string, Failure[]> {
  const within = failures.filter(
    (each) => each.schemaPath.startsWith(`${schemaPath}/`) && each.instancePath.startsWith(instancePath),
  );
  return Map.groupBy(within, (each) => each.schemaPath.slice(schemaPath.length + 1).split('/')[0] ?? '');
}

function nearestOf(branches: readonly Failure[][], at: string): Failure[] {
  const otherTypes = branches.flatMap(([first]) =>
    first?.keyword === 'type' && first.instancePath === at ? [first] : [],
  );
  const [first] = otherTypes;
  if (first !== undefined && otherTypes.length === branches.length) {
    const types = new Set(otherTypes.flatMap(({ params }) => params.type as string | string[]));
    return [{ ...first, params: { type: [...types] } }];
  }
  const [nearest = []] = branches.toSorted((a, b) => distanceOf(a, at) - distanceOf(b, at));
  return nearest;
}

/**
 * A value of another type is further away than one that has a member it may not have, that than one with a member of another
 * type, and that than one where something else is wrong.
 */
function distanceOf(branch: readonly Failure[], at: string): number {
  const weights = branch.map(({ keyword, instancePath }) => {
    const isType = keyword === 'type';
    if (instancePath === at) return isType ? 4 : 3;
    const isMember = instancePath.lastIndexOf('/') === at.length;
    return isType && isMember ? 2 : 1;
  });
  return weights.reduce<number>((sum, weight) => sum + weight, 0);
}
