// Package compact is tables of a million rows that hold no pointers, so that they cost the garbage collector nothing and
// little memory. It knows nothing of what stands in them.
package compact
