// Names the first place at which two JSON values differ.

const isObject = (value) => typeof value === 'object' && value !== null;

/** Where a value differs from the expected one, in words; undefined if it doesn't. The order of members is no difference. */
export function difference(actual, expected, path = '') {
  if (!isObject(actual) || !isObject(expected) || Array.isArray(actual) !== Array.isArray(expected)) {
    if (Object.is(actual, expected)) return undefined;
    return `${path || 'it'} is ${brief(actual)} instead of ${brief(expected)}`;
  }
  for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
    const found = difference(actual[name], expected[name], path ? `${path}.${name}` : name);
    if (found) return found;
  }
  return undefined;
}

function brief(value) {
  const text = JSON.stringify(value) ?? 'absent';
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
