package control

// Connected is the number of Watch streams that run.
func (s *Server) Connected() int { return s.registry.Connected() }
