// Package diagnose is the judge: from the folded facts it finds what stalled sockets have in common, says what happened to
// it, with evidence for and against, and follows each case to its end. It must not know how facts were obtained or how
// findings are shown, and it may not keep anything but what it has found.
package diagnose
