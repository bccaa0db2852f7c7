/** What mien throws: what went wrong, where, and what to do next, in one line. */
export class MienError extends Error {
  override name = "MienError";
}
