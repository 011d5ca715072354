/* What CBMC's own C library does not have. */
int __builtin_isfinite(double number)
{
    return number - number == 0; /* neither NAN nor infinite */
}

double ldexp(double number, int exponent)
{
    for (; exponent > 0; exponent--)
        number *= 2;
    for (; exponent < 0; exponent++)
        number /= 2;
    return number;
}
