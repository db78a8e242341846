"""Many runs in one program: `sweep`, and `chunks`, which decides how many run side by side."""
