package issuance

// General asks zlint, whatever it said of the shape.
var General = general
