/** mien in the browser: expressions, valence and arousal, and action units of faces. */

export type { CropCard, Task } from "./card.js";
export type { Device } from "./engine.js";
export { MienError } from "./errors.js";
export type { Box, Point } from "./geometry.js";
export type { Scores } from "./model.js";
export { colourOf, drawReadings, labelOf } from "./overlay.js";
export type { FrameSource, Picture } from "./picture.js";
export type { Quality } from "./quality.js";
export type { Crop, Reading, ReaderOptions } from "./reader.js";
export { Reader, UNCERTAIN } from "./reader.js";
export type { Row } from "./table.js";
export { Table } from "./table.js";
